"""The testbed: processes of the node and of the robot in one ROS domain, and their control."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.ros.environment import private_graph
from support import ROOT
from support.domains import free_domain
from support.faults.judge import Judge, Limits
from support.faults.observer import Observer
from support.process import Process
from support.waiting import PATIENCE, NotWithin, wait_until

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
LIMITS = Limits(np.full(6, -1.6), np.full(6, 1.6), 1.5, 8.0)
FAKE_NODE = (sys.executable, "-m", "support.faults.fake_node")
REAL_NODE = (sys.executable, "-m", "pi0_ros.node")

PARAMETERS = {
    "checkpoint": "/fake",
    "autostart": True,
    "start_enabled": True,
    "frozen_frames": 10,
    "starve_timeout": 0.3,
    "inference_timeout": 0.5,
    "reject_latch": 5,
    "tracking_timeout": 20.0,
}
"""What the node gets beside config/demo.yaml: short times, so that the suite is short. But the arm
gets trajectories late on a busy machine, which must not latch."""


class Testbed:
    """A ROS domain with a robot, an observer and at most one node.

    Attributes:
        observer, node, robot, server: None where there is none yet.
    """

    __test__ = False  # no test case, whatever pytest makes of its name

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = 0
        self.domain = free_domain()
        self.environment = {**private_graph({}), "ROS_DOMAIN_ID": str(self.domain)}
        self.environment["FAULT_CONTROL"] = str(folder / "policy_does")
        self.limits_file = folder / "limits.yaml"
        self.limits_file.write_text(_limits_yaml())
        self.judge = Judge(JOINTS, LIMITS)
        self.observer = Observer(self.domain, self.judge)
        self.node: Process | None = None
        self.robot: Process | None = None
        self.flood: Process | None = None
        self.server: Process | None = None
        self._port = 0
        self.start_robot()

    def close(self) -> None:
        for process in (self.node, self.robot, self.flood, self.server):
            if process is not None:
                process.kill()
        self.observer.close()

    def process(self, name: str, command: list[str], **environment: str) -> Process:
        """Start a process in this domain."""
        self._runs += 1
        log = self.folder / f"{self._runs:03}_{name}.log"
        return Process(command, log, **{**self.environment, **environment})

    # The robot ----------------------------------------------------------------------------------

    def start_robot(self, at_home: bool = False) -> None:
        """Its arm is where it was, unless it is the first or wanted at home."""
        positions = [] if at_home else [json.dumps(p) for p in [self.observer.arm] if p]
        self.robot = self.process(
            "robot", [sys.executable, "-m", "support.faults.robot", *positions]
        )
        self.robot.wait_for("ready")

    def kill_robot(self) -> None:
        self.robot.kill()

    def tell_robot(self, **command: Any) -> None:
        """Give a command of robot.py and wait until it is obeyed."""
        before = self.robot.output.count("ok\n")
        self.robot.tell(json.dumps(command))
        wait_until(lambda: self.robot.output.count("ok\n") > before, f"the robot to do {command}")

    def start_flood(self) -> None:
        self.flood = self.process("flood", [sys.executable, "-m", "support.faults.flood"])
        self.flood.wait_for("ready")

    def end_flood(self) -> str:
        """How many messages it got out."""
        self.flood.end(signal.SIGINT)
        lines = [line for line in self.flood.output.splitlines() if "rounds/s" in line]
        return lines[-1] if lines else "it told no count"

    # The policy's server ------------------------------------------------------------------------

    def start_server(self, *words: str) -> str:
        """Start it, or start it again in its place; returns its URL.

        Args:
            words: `other` makes it one of another robot.
        """
        if not self._port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = probe.getsockname()[1]
        command = [sys.executable, "-m", "support.faults.fake_server", str(self._port), *words]
        self.server = self.process("server", command)
        self.server.wait_for("serving")
        return f"ws://127.0.0.1:{self._port}"

    def restart_server(self, *words: str) -> None:
        self.server.kill()
        self.start_server(*words)

    # The node -----------------------------------------------------------------------------------

    def tell_policy(self, word: str) -> None:
        """What the fake policy does from its next inference on; "": it behaves."""
        path = Path(self.environment["FAULT_CONTROL"])
        new = path.with_suffix(".new")
        new.write_text(word)
        new.replace(path)

    def arguments(self, **parameters: Any) -> list[str]:
        """Command-line arguments; `a__b` in a name stands for `a.b`."""
        given = {**PARAMETERS, "joint_limits": str(self.limits_file), **parameters}
        arguments = ["--ros-args", "--params-file", str(ROOT / "config/demo.yaml")]
        for name, value in given.items():
            arguments += ["-p", f"{name.replace('__', '.')}:={json.dumps(value)}"]
        return arguments

    def start_node(
        self, command: tuple[str, ...] = FAKE_NODE, environment: Any = None, **parameters: Any
    ) -> Process:
        """Start the node; an earlier one has to be ended."""
        assert self.node is None or not self.node.lives(), "a node runs already"
        self.tell_policy("")
        arguments = [*command, *self.arguments(**parameters)]
        self.node = self.process("node", arguments, **(environment or {}))
        return self.node

    def end_node(self) -> int:
        """The exit status."""
        return self.node.end()

    def begin_moving(self) -> None:
        """Until the node is active and enabled, and trajectories come."""
        self.node.wait_for("ready:")

        def enabled() -> bool:
            return self.observer.trajectories > before or self.observer.enable().success

        before = self.observer.trajectories
        wait_until(enabled, "the node to be enabled")
        self.wait_for_trajectories()

    def wait_for_trajectories(self, count: int = 2, patience: float = PATIENCE) -> None:
        """Until so many more have come."""
        before = self.observer.trajectories

        def came() -> bool:
            if not self.node.lives():
                raise NotWithin(f"the node has ended; {self.node.tail}")
            return self.observer.trajectories >= before + count

        def what() -> str:
            return f"{count} trajectories; {self.node.tail}"

        wait_until(came, what, patience)


def _limits_yaml() -> str:
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: {LIMITS.lower[i]},"
        f" max_position: {LIMITS.upper[i]}, has_velocity_limits: true,"
        f" max_velocity: {LIMITS.velocity}, has_acceleration_limits: true,"
        f" max_acceleration: {LIMITS.acceleration}}}"
        for i, joint in enumerate(JOINTS)
    ]
    return "\n".join(["joint_limits:", *lines, ""])
