"""The closed loop over DDS: pi0_sim and pi0_node as processes, judged by what their topics say.

Real time, or with a speed simulated time: the figures depend on the machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from pi0_ros.msg import ActionChunk
from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.node.joint_states import positions_of
from pi0_ros.node.observation import stamp_of
from pi0_ros.ros.environment import environment, private_graph
from pi0_ros.ros.process import NodeProcess
from pi0_ros.ros.services import Refused, ServiceCall
from pi0_ros.ros.spinning import ros_node
from pi0_ros.sim.controller import points_of
from pi0_ros.sim.node_setup import LIMITS, PARAMETERS, config_file
from pi0_ros.sim.rollout import Episode, Loop
from pi0_ros.sim.shadow import Shadow, Tally
from pi0_ros.sim.stage import JOINTS

START_LIMIT = 120.0
"""Seconds of real time in which both processes have to begin."""

_ANSWER_LIMIT = 20.0  # seconds of real time for anything later
_CHUNK_LIMIT = 5.0  # seconds of real time for a chunk of a scene
_REPEAT = 0.3  # seconds after which what was not heard is said again
_POLL = 0.005
_ALL = QoSProfile(depth=1000)
_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LoopError(RuntimeError):
    """The two processes did not come together."""


@contextmanager
def closed_loop(
    loop: Loop, variant: str, seed: int, speed: float | None, given: dict[str, object]
) -> Iterator[Judge]:
    """Both processes, and the judge beside them, on the loopback.

    Args:
        loop: its ablation, stitched and setup's limits are not used.
        seed: of the first scene.
        speed: simulated per real time; None: real time.
        given: the node's parameters besides those of config/touch.yaml.
    """
    sim = [sys.executable, "-m", "pi0_ros.sim.node", "--seed", str(seed), "--variant", variant]
    if loop.controller != "jtc":
        sim.append(f"--{loop.controller}")
    if speed is not None:
        sim += ["--clock", "--speed", str(speed)]
    sim += ["--ros-args", "-r", "joint_trajectory:=pi0/joint_trajectory"]
    node = [sys.executable, "-m", "pi0_ros.node"]
    if loop.delay:
        late = loop.delay * 1e3 / (speed or 1.0)  # of real time
        node = [sys.executable, "-m", "benchmarks.simulated.late_node", str(late)]
    parameters = {**given, "joint_limits": str(config_file(LIMITS)), "autostart": True}
    if speed is not None:
        parameters["use_sim_time"] = True
    node += ["--ros-args", "--params-file", str(config_file(PARAMETERS))]
    for name, value in parameters.items():
        node += ["-p", f"{name}:={json.dumps(value)}"]
    with (
        tempfile.TemporaryDirectory(prefix="pi0_sim_eval_") as logs,
        environment(private_graph(os.environ)),
        NodeProcess(sim, Path(logs, "sim.log")) as sim_process,
        NodeProcess(node, Path(logs, "node.log")) as node_process,
        ros_node("pi0_sim_eval") as judge,
    ):
        yield Judge(judge, loop, (sim_process, node_process))


class Judge:
    """Sends the arm to objects, scene by scene, and notes what came of it.

    Callbacks run in the executor's thread, everything else in the caller's.

    Args:
        node: somebody spins it.
        loop: how long a scene may take, and the kind of controller.
        processes: what has to keep running.
    """

    def __init__(self, node: Node, loop: Loop, processes: Sequence[NodeProcess]) -> None:
        self._node, self._loop, self._processes = node, loop, processes
        self._shadow: Shadow | None = None
        self._scene: dict[str, Any] = {}
        self._tally: tuple[int, Tally] = 0, Tally()
        self._now = 0  # nanoseconds of the robot's time
        self._answered: tuple[str, int] = "", 0  # the last chunk's instruction and stamp
        self._instruction = node.create_publisher(String, "instruction", 1)
        self._enable = node.create_client(SetBool, "pi0/enable")
        self._reset = node.create_client(Trigger, "pi0/reset")
        self._next_scene = node.create_client(Trigger, "sim/next_scene")
        for kind, topic, callback, qos in (
            (JointState, "joint_states", self._on_state, _ALL),
            (JointTrajectory, "pi0/joint_trajectory", self._on_trajectory, _ALL),
            (ActionChunk, "pi0/action_chunk", self._on_chunk, _ALL),
            (String, "sim/touched", self._on_touched, _ALL),
            (String, "sim/score", self._on_score, _KEPT),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, _ALL),
        ):
            node.create_subscription(kind, topic, callback, qos)

    def episodes(self, seeds: Sequence[int]) -> Iterator[Episode]:
        """An episode per scene, in order; seeds count up by one from the sim's first.

        Raises:
            LoopError: something did not come in time.
            NodeEnded: one of the processes ended.
        """
        self._wait(lambda: self._scene and self._now, START_LIMIT, "a scene of pi0_sim")
        first = True
        for seed in seeds:
            if self._scene["scene"] != seed:
                self._go_to(seed)
            yield self._episode(seed, first)
            first = False

    def _episode(self, seed: int, first: bool) -> Episode:
        instructions = self._scene["instructions"]
        told = instructions[seed % len(instructions)]
        begun = self._now
        self._call(self._reset, Trigger.Request(), START_LIMIT)

        def heard() -> bool:
            """A dry run has answered a picture of this scene: nothing old is in the air."""
            return self._answered[0] == told and self._answered[1] > begun

        # Later a node that refuses all its chunks is no broken loop but a scene without success.
        self._wait(
            heard,
            START_LIMIT if first else _CHUNK_LIMIT,
            f"a chunk of pi0_node for {told!r}",
            again=lambda: self._instruction.publish(String(data=told)),
            needed=first,
        )
        before = self._counted()
        self._shadow = shadow = Shadow(self._loop.controller)
        self._call(self._enable, SetBool.Request(data=True))
        self._wait(
            lambda: shadow.touched is not None or shadow.seconds >= self._loop.seconds,
            _ANSWER_LIMIT * max(1.0, self._loop.seconds),
            "the end of the scene",
        )
        self._shadow = None
        after = self._counted()
        self._call(self._enable, SetBool.Request(data=False))
        return shadow.episode(seed, told, told.removeprefix("touch the "), before, after)

    def _counted(self) -> Tally:
        """What the node has counted up to now."""
        now = self._now
        self._wait(lambda: self._tally[0] >= now, _ANSWER_LIMIT, "/diagnostics of pi0_node")
        return self._tally[1]

    # ---- waiting ------------------------------------------------------------------------------

    def _wait(
        self,
        done: Callable[[], object],
        limit: float,
        what: str,
        again: Callable[[], object] = lambda: None,
        needed: bool = True,
    ) -> None:
        """Until something is done; says `again` now and then what may not have been heard.

        Raises:
            LoopError: it was not done within `limit` seconds of real time, and is needed.
            NodeEnded: one of the processes ended.
        """
        end, said = time.monotonic() + limit, -_REPEAT
        while not done():
            for process in self._processes:
                process.check()
            now = time.monotonic()
            if now > end and not needed:
                return
            if now > end:
                outputs = "\n".join(process.last_output() for process in self._processes)
                raise LoopError(f"{what} did not come within {limit:g} s. Last output:\n{outputs}")
            if now - said >= _REPEAT:
                said = now
                again()
            time.sleep(_POLL)

    def _go_to(self, seed: int) -> None:
        """To the next scene, which is this one; once, even if its answer is lost."""

        def there() -> bool:
            return self._scene["scene"] == seed

        asking = ServiceCall(self._next_scene, Trigger.Request(), again=lambda: not there())
        self._ask(lambda: asking.poll() or there(), "sim/next_scene", _ANSWER_LIMIT)
        self._wait(there, _ANSWER_LIMIT, f"scene {seed}")

    def _call(self, client: Client, request: Any, limit: float = _ANSWER_LIMIT) -> None:
        self._ask(ServiceCall(client, request).poll, client.srv_name, limit)

    def _ask(self, poll: Callable[[], object], service: str, limit: float) -> None:
        """Raises LoopError where the service does not answer or says no."""
        try:
            self._wait(poll, limit, f"an answer of {service}")
        except Refused as error:
            raise LoopError(f"{service} refused: {error}") from error

    # ---- what comes in, in the executor's thread ----------------------------------------------

    def _on_state(self, message: JointState) -> None:
        self._now = stamp_of(message)
        if self._shadow is not None:
            velocities = dict(zip(message.name, message.velocity, strict=True))
            self._shadow.state(
                self._now,
                positions_of(message, JOINTS),
                np.array([velocities[name] for name in JOINTS]),
            )

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if self._shadow is not None:
            self._shadow.trajectory(points_of(message))

    def _on_chunk(self, message: ActionChunk) -> None:
        self._answered = message.instruction, stamp_of(message)
        if self._shadow is not None:
            self._shadow.inference.append(sum(message.stage_times))

    def _on_touched(self, message: String) -> None:
        if self._shadow is not None and self._shadow.touched is None:
            self._shadow.touched = message.data

    def _on_score(self, message: String) -> None:
        self._scene = json.loads(message.data)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        statuses = {
            status.name.removeprefix("pi0: "): {pair.key: pair.value for pair in status.values}
            for status in message.status
        }
        if "observations" in statuses:
            self._tally = stamp_of(message), Tally.read(statuses)
