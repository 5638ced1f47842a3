"""From a chunk to the controller in simulated time: the node's executor before an emulated one.

Without stitching the chunk goes to the controller as it came, to see what the executor is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.simulated.setup import NodeSetup
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.motion.rtc import WARM_UP, Agreement, RealTimeChunking, RtcCounts, RtcSettings
from pi0_ros.motion.spline import Trajectory, derivative
from pi0_ros.policy.types import ActionChunk
from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points, Rejected
from pi0_ros.sim.versions import VERSIONS, Parameters

CONTROLLERS = {version: (version, Parameters()) for version in VERSIONS} | {
    "from-desired": ("jazzy", Parameters(interpolate_from_desired_state=True))
}
"""Name -> version and parameters of a Controller."""


def controller_of(name: str, joints: Sequence[str], period: int) -> Controller:
    """The controller of a name in CONTROLLERS; a cycle takes `period` nanoseconds."""
    version, parameters = CONTROLLERS[name]
    return Controller(joints, version, period, parameters)


class Driver:
    """An enabled executor and the controller that gets its trajectories.

    Args:
        setup: parameters and limits.
        controller: a key of CONTROLLERS.
        period: nanoseconds between two cycles of it.
        stitched: plan as the node does; otherwise chunks are sent as they are.
        delay: nanoseconds that a chunk takes, as earlier scenes have shown.

    Attributes:
        boundaries: nanoseconds at which a new trajectory arrived, and of its first point if that
            came later.
        published: trajectories that the controller took, stops apart.
        stops: trajectories that stopped the arm because no chunk came.
        recoveries: trajectories of a chunk that followed one of those.
        refused: reason -> chunks not published.
        rejected: trajectories that the controller did not take.
        clamped: limit -> chunks clamped to it.
        rtc: real-time chunking, and its counts.
    """

    def __init__(
        self, setup: NodeSetup, controller: str, period: int, stitched: bool, delay: int
    ) -> None:
        self._setup = setup
        self._joints = setup.parameters.joint_names
        self._enable = MotionEnable()
        self._enable.enable(0.0)
        settings = MotionSettings.of(setup.parameters)
        self._executor = Executor(self._joints, setup.limits, settings, self._enable)
        self._controller = controller_of(controller, self._joints, period)
        self._stitched = stitched
        self.rtc = RealTimeChunking(RtcSettings.of(setup.parameters))
        self._know(delay + round(setup.parameters.splice_lead * 1e9))
        self.boundaries: list[int] = []
        self.published = 0
        self.stops = self.recoveries = 0
        self._holds = False
        self.refused: Counter[str] = Counter()
        self.rejected = 0
        self.clamped: Counter[str] = Counter()

    @property
    def latched(self) -> str:
        """Why nothing will be published any more; "" as long as it is."""
        return self._enable.latched

    def _know(self, delay: int) -> None:
        """Begin a scene as a node does that has executed chunks in an episode before.

        Args:
            delay: nanoseconds from an observation to the earliest splice point, which is then the
                next step of the chunk.
        """
        seconds = self._setup.parameters.action_dt
        step = round(seconds * 1e9)
        earlier = ActionChunk(np.zeros((0, len(self._joints))), seconds, 0, 0, seed=0)
        for _ in range(WARM_UP + 1):
            self.rtc.executed(earlier, -(-delay // step) * step, "")
        self.rtc.drop("episode")
        self.rtc.counts = RtcCounts()

    def agreement(self, stamp: int, instruction: str, policy: object) -> Agreement:
        """What the chunk of an observation is to agree with; see `RealTimeChunking.prepare`."""
        step = self._setup.parameters.action_dt
        return self.rtc.prepare(self._executor.executing, stamp, instruction, step, policy)

    def move(self, chunk: ActionChunk, measured: Measured, now: int, instruction: str) -> None:
        """A chunk came out of the policy at `now` (nanoseconds)."""
        if not self._stitched:
            self.published += self._send(_unplanned(chunk), now)
            return
        result = self._executor.update(chunk, measured, now)
        if isinstance(result, Refusal):
            self.refused[result.reason.value] += 1
            self.tick(measured, now)
            return
        self.clamped.update(result.clamped)
        if result.trajectory is not None:
            self.rtc.executed(chunk, result.splice_at, instruction)
            self.published += self._send(result.trajectory, now)
            self.recoveries += self._holds
            self._holds = False

    def tick(self, measured: Measured, now: int) -> None:
        """Stop the arm where no chunk follows."""
        plan = self._executor.tick(measured, now)
        if plan is not None and plan.trajectory is not None:
            self._send(plan.trajectory, now)
            self.rtc.drop("stop")
            self.stops += 1
            self._holds = True

    def _send(self, trajectory: Trajectory, now: int) -> bool:
        """Whether the controller took it; the node cannot know."""
        times = np.array(trajectory.times, dtype=np.int64)
        points = Points(
            self._joints, trajectory.stamp, times, trajectory.positions, trajectory.velocities
        )
        try:
            self._controller.accept(points, now)
        except Rejected:
            self.rejected += 1
            return False
        first = (trajectory.stamp or now) + int(times[0])
        self.boundaries += [now, first] if first > now else [now]
        return True

    def command(self, measured: Measured, now: int) -> np.ndarray:
        """[joints] radians that the controller commands at `now` (nanoseconds)."""
        return self._controller.command(now, measured.positions, measured.velocities)


def _unplanned(chunk: ActionChunk) -> Trajectory:
    """Every step at its time, with the velocities of a smooth path, 0 at the end."""
    step = round(chunk.dt * 1e9)
    times = tuple(step * (i + 1) for i in range(len(chunk.positions)))
    velocities = derivative(chunk.positions, chunk.dt)
    velocities[-1] = 0.0
    return Trajectory(chunk.stamp, times, chunk.positions.astype(np.float64), velocities)
