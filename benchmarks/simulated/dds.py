"""Scenes over DDS: pi0_sim and pi0_node as processes, judged by what is on their topics.

Real time, or with a speed simulated time: the figures depend on the machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from pi0_ros.msg import ActionChunk
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from benchmarks.simulated.drive import CONTROLLERS
from benchmarks.simulated.rollout import Episode, Loop
from benchmarks.simulated.shadow import Shadow, Tally
from pi0_ros.node.arguments import NODE_NAME
from pi0_ros.node.joint_states import JointStateReader
from pi0_ros.node.observation import stamp_of
from pi0_ros.ros.diagnostics import OBSERVATIONS, read_statuses
from pi0_ros.sim.closed_loop import ANSWER_LIMIT, START_LIMIT, ClosedLoop, closed_loop
from pi0_ros.sim.points import points_of
from pi0_ros.sim.robot import STEP
from pi0_ros.sim.stage import JOINTS

_CHUNK_LIMIT = 5.0  # seconds of real time for a chunk of a scene
_ALL = QoSProfile(depth=1000)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@contextmanager
def judge(
    loop: Loop, variant: str, seed: int, speed: float | None, given: Mapping[str, object]
) -> Iterator[Judge]:
    """Both processes, and the judge beside them.

    Args:
        loop: its ablation, stitched and limits are not used.
        seed: of the first scene.
        speed: simulated per real time; None: real time.
        given: the node's parameters besides those of config/touch.yaml.
    """
    sim = ["--seed", str(seed), "--variant", variant]
    version, options = CONTROLLERS[loop.controller]
    sim += ["--controller", version]
    sim += ["--from-desired"] * options.interpolate_from_desired_state
    if speed is not None:
        sim += ["--clock", "--speed", str(speed)]
    node = [sys.executable, "-m", "pi0_ros.node"]
    if loop.delay:
        late = loop.delay * 1e3 / (speed or 1.0)  # of real time
        node = [sys.executable, "-m", "benchmarks.simulated.late_node", str(late)]
    parameters = {"use_sim_time": speed is not None, **given}
    with (
        tempfile.TemporaryDirectory(prefix="pi0_simulated_") as logs,
        closed_loop("judge", sim, parameters, Path(logs), node) as running,
    ):
        yield Judge(running, loop)


class Judge:
    """Has the arm touch objects, scene by scene, and notes what came of it.

    Callbacks run in the executor's thread, everything else in the caller's.

    Args:
        running: both processes.
        loop: how long a scene may take, and the kind of controller.
    """

    def __init__(self, running: ClosedLoop, loop: Loop) -> None:
        self._running, self._loop = running, loop
        self._shadow: Shadow | None = None
        self._reader = JointStateReader(JOINTS)
        self._scene: dict[str, Any] = {}
        self._tally: tuple[int, Tally] = 0, Tally()
        self._now = 0  # nanoseconds of the robot's time
        self._answered: tuple[str, int] = "", 0  # the last chunk's instruction and stamp
        for kind, topic, callback, qos in (
            (JointState, "joint_states", self._on_state, _ALL),
            (JointTrajectory, f"{NODE_NAME}/joint_trajectory", self._on_trajectory, _ALL),
            (ActionChunk, f"{NODE_NAME}/action_chunk", self._on_chunk, _ALL),
            (String, "sim/touched", self._on_touched, _ALL),
            (String, "sim/score", self._on_score, _LATCHED),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, _ALL),
        ):
            running.node.create_subscription(kind, topic, callback, qos)

    def episodes(self, seeds: Sequence[int]) -> Iterator[Episode]:
        """An episode per scene, in order; seeds count up by one from the sim's first.

        Raises:
            NodeError: something did not come in time.
            NodeEnded: one of the processes ended.
        """
        running = self._running
        running.wait(lambda: self._scene and self._now, START_LIMIT, "a scene of pi0_sim")
        running.start()
        for number, seed in enumerate(seeds):
            if self._scene["scene"] != seed:
                running.next_scene(lambda seed=seed: self._scene["scene"] == seed)
            yield self._episode(seed, first=number == 0)

    def _episode(self, seed: int, first: bool) -> Episode:
        running, instructions = self._running, self._scene["instructions"]
        instruction = instructions[seed % len(instructions)]
        begun = self._now
        running.reset()
        running.instruct(instruction)
        # Later a node that rejects all its chunks is no broken loop but a scene without success.
        limit = time.monotonic() + (START_LIMIT if first else _CHUNK_LIMIT)

        def answered() -> bool:
            """A dry run has answered an image of this scene: the last scene is over."""
            if self._answered[0] == instruction and self._answered[1] > begun:
                return True
            return not first and time.monotonic() > limit

        running.wait(answered, START_LIMIT, f"a chunk of pi0_node for {instruction!r}")
        before = self._counted()
        self._shadow = shadow = Shadow(self._loop.controller, STEP)
        running.enable()
        running.wait(
            lambda: shadow.touched is not None or shadow.seconds >= self._loop.seconds,
            ANSWER_LIMIT * max(1.0, self._loop.seconds),
            "the end of the scene",
        )
        self._shadow = None
        after = self._counted()
        running.enable(False)
        return shadow.episode(
            seed, instruction, (instruction.removeprefix("touch the "),), before, after
        )

    def _counted(self) -> Tally:
        """What the node has counted up to now."""
        now = self._now
        self._running.wait(lambda: self._tally[0] >= now, ANSWER_LIMIT, "/diagnostics of pi0_node")
        return self._tally[1]

    # ---- in the executor's thread -------------------------------------------------------------

    def _on_state(self, message: JointState) -> None:
        self._now = stamp_of(message)
        if self._shadow is not None:
            velocities = dict(zip(message.name, message.velocity, strict=True))
            self._shadow.state(
                self._now,
                self._reader.read(message).positions,
                np.array([velocities[name] for name in JOINTS]),
            )

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if self._shadow is not None:
            self._shadow.trajectory(points_of(message))

    def _on_chunk(self, message: ActionChunk) -> None:
        if message.verdict == ActionChunk.REJECTED:
            return
        self._answered = message.instruction, stamp_of(message)
        if self._shadow is not None:
            self._shadow.inference.append(sum(message.stage_times))

    def _on_touched(self, message: String) -> None:
        if self._shadow is not None and self._shadow.touched is None:
            self._shadow.touched = message.data

    def _on_score(self, message: String) -> None:
        self._scene = json.loads(message.data)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        statuses = read_statuses(message, NODE_NAME)
        if OBSERVATIONS in statuses:
            self._tally = stamp_of(message), Tally.read(statuses)
