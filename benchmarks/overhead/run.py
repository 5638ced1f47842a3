"""One run: the node and a robot as processes over DDS, and what they report."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from pi0_ros.msg import ActionChunk
from rclpy.node import Node
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import JointTrajectory

from benchmarks.overhead.figures import (
    Case,
    Figures,
    Refused,
    figures,
    read_rates,
    read_ticks,
)
from benchmarks.overhead.robot import RobotSettings
from benchmarks.overhead.stops import StopButton
from pi0_ros.node.interface import Interface
from pi0_ros.ros.diagnostics import OBSERVATIONS, counters_from_values
from pi0_ros.ros.process import NodeError, NodeProcess
from pi0_ros.ros.spinning import ros_node

NODE = (sys.executable, "-m", "benchmarks.overhead.node")
ROBOT = (sys.executable, "-m", "benchmarks.overhead.robot")

_POLL = 0.1
_SILENCE = 60.0  # seconds without trajectories after which the node hangs
_DEEP = QoSProfile(depth=100)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all of its threads, so far."""
    # The name, in parentheses, may hold anything; utime and stime are the fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child_of(pid: int) -> int | None:
    """The process that a process started, if it started one."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == pid:
            return int(stat.parent.name)
    return None


class Listener:
    """Stands for the controller and for the subscribers of the other topics.

    Attributes:
        refused: what the node reported of its ticks, in order.
        trajectories: monotonic seconds at which they came.
        said: the node's state and the summary of its status.
    """

    def __init__(self, node: Node, interface: Interface) -> None:
        """Subscribe to what the node publishes; somebody spins `node`."""
        self.refused: list[Refused] = []
        self.trajectories: list[float] = []
        self.said = ("", "nothing yet")
        self._status = f"{interface.name.rpartition('/')[2]}: {OBSERVATIONS}"
        subscribe, absolute = node.create_subscription, interface.absolute
        trajectories, chunks = absolute("~/joint_trajectory"), absolute("~/action_chunk")
        self._subscriptions = [
            subscribe(DiagnosticArray, absolute("/diagnostics"), self._on_diagnostics, _DEEP),
            subscribe(JointTrajectory, trajectories, self._on_trajectory, _DEEP, raw=True),
            subscribe(ActionChunk, chunks, lambda _: None, _DEEP, raw=True),
        ]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._status:
                values = {pair.key: pair.value for pair in status.values}
                refused = counters_from_values(0, values).refused
                self.refused.append(Refused(time.monotonic(), Counter(refused)))
                self.said = values["state"], status.message

    def _on_trajectory(self, _: bytes) -> None:
        self.trajectories.append(time.monotonic())

    def check(self) -> None:
        """Raises NodeError if the node said that it cannot begin."""
        state, summary = self.said
        if state == "unconfigured" and " failed: " in summary:
            raise NodeError(f"the node cannot begin: {summary}")


def run_case(
    case: Case,
    interface: Interface,
    arguments: Sequence[str],
    folder: Path,
    seconds: float,
    warm_up: float,
    startup_limit: float,
    on_poll: Callable[[float], None] = lambda _: None,
    stops: int = 0,
) -> Figures:
    """Measure one case; the surroundings (domain, loopback, profile) are set already.

    Args:
        interface: of the node with these `arguments`.
        arguments: ROS arguments of the node, parameters of the case among them.
        folder: for the output of the processes.
        seconds: to measure for.
        warm_up: seconds from the first trajectory on that do not count.
        startup_limit: seconds within which the node must be ready and trajectories must come.
        on_poll: gets the seconds since the last call, of warming up and measuring.
        stops: emergency stops, after the rest is measured.

    Raises:
        NodeError: a process ended, or no trajectory came in time.
        OverheadError: too little came for figures.
    """
    timings = folder / "timings"
    robot_command = [*ROBOT, _robot_settings(case, interface).to_json()]
    node_command = [*NODE, str(timings), "--ros-args", *arguments]
    with ExitStack() as stack:
        own = stack.enter_context(ros_node("overhead"))
        listener = Listener(own, interface)
        button = StopButton(own, interface, listener.trajectories) if stops else None
        server = None
        if interface.parameters.policy_server:
            server = NodeProcess(_server_command(interface), folder / "server.log")
            stack.enter_context(server)
            limit = time.monotonic() + startup_limit
            while "serving on" not in server.last_output() and time.monotonic() < limit:
                time.sleep(_POLL)
                server.check()
        robot = stack.enter_context(NodeProcess(robot_command, folder / "robot.log"))
        node = stack.enter_context(NodeProcess(node_command, folder / "node.log"))

        def wait(
            until: Callable[[], bool], elapsed: Callable[[float], None], poll: float = _POLL
        ) -> None:
            polled = time.monotonic()
            while not until():
                time.sleep(poll)
                robot.check()
                node.check()
                listener.check()
                elapsed(time.monotonic() - polled)
                polled = time.monotonic()

        limit = time.monotonic() + startup_limit
        wait(lambda: bool(listener.trajectories) or time.monotonic() > limit, lambda _: None)
        if not listener.trajectories:
            raise NodeError(
                f"no trajectory came within {startup_limit:g} s. The node is {listener.said[0]} and"
                f" reports: {listener.said[1]}. Its last output:\n{node.last_output()}"
            )
        begin = time.monotonic() + warm_up
        wait(lambda: time.monotonic() >= begin, on_poll)
        policy = {"process": child_of(node.pid), "server": server and server.pid}.get(case.policy)
        pids = [node.pid, *([] if policy is None else [policy])]
        begin, used = time.monotonic(), [cpu_seconds(pid) for pid in pids]
        wait(lambda: time.monotonic() >= begin + seconds, on_poll)
        end = time.monotonic()
        shares = [
            (cpu_seconds(pid) - before) / (end - begin)
            for pid, before in zip(pids, used, strict=True)
        ]
        # The outcome of the last ticks shows at the next one; two trajectories mean one.
        limit = end + _SILENCE
        wait(lambda: _since(listener, end) >= 2 or time.monotonic() > limit, lambda _: None)
        measured = list(listener.trajectories)
        took = []
        if button is not None:
            took = button.measure(stops, lambda until: wait(until, lambda _: None, 0.01))
    with timings.open() as lines, (folder / "robot.log").open() as reports:
        return figures(
            case,
            begin,
            end,
            read_ticks(lines),
            listener.refused,
            trajectories=measured,
            robot_hz=read_rates(reports, begin, end),
            node_cpu=shares[0],
            policy_cpu=shares[1] if len(shares) > 1 else None,
            stops=took,
        )


def _server_command(interface: Interface) -> list[str]:
    """`pi0 serve` with the checkpoint of the node's parameters, where the node looks for it."""
    p = interface.parameters
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", "--checkpoint", p.checkpoint]
    command += ["--port", p.policy_url.rpartition(":")[2], "--threads", str(p.threads)]
    return [*command, "--device", p.device, "--dtype", p.dtype, "--cameras", *p.camera_names]


def _since(listener: Listener, time: float) -> int:
    return sum(at > time for at in listener.trajectories)


def _robot_settings(case: Case, interface: Interface) -> RobotSettings:
    absolute, parameters = interface.absolute, interface.parameters
    return RobotSettings(
        cameras=tuple(absolute(camera.topic) for camera in parameters.cameras),
        joint_states=absolute(parameters.joint_states_topics[0]),
        instruction=absolute("instruction"),
        joints=parameters.joint_names,
        width=case.width,
        height=case.height,
    )
