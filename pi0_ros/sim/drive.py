"""From a chunk to the controller in simulated time: what the node does between the two.

The same decisions as `motion.executor`, by the same functions: plan, refuse, latch, and stop
what nothing follows. Without stitching the chunk goes to the controller as it came, to see what
that difference is worth.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from pi0_ros.motion.blend import derivative
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.planner import Plan, plan, stop
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.motion.screening import Bands
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk
from pi0_ros.sim.controller import Controller, Points, Rejected
from pi0_ros.sim.node_setup import NodeSetup

CONTROLLERS = {
    "jtc": {},
    "from-desired": {"from_desired": True},
    "splice": {"splice": True},
}
"""Name -> what makes a Controller of that kind."""

_SECOND = 1_000_000_000


class Driver:
    """Brings chunks to a controller of its own, as an enabled node does.

    Args:
        setup: parameters and limits.
        controller: a key of CONTROLLERS.
        stitched: plan as the node does; otherwise chunks are sent as they are.

    Attributes:
        boundaries: nanoseconds at which a new trajectory arrived, and of its first point if that
            came later.
        published: trajectories that the controller took, stops apart.
        stops: trajectories that slowed the arm down because no other came.
        refused: reason -> chunks not published.
        rejected: trajectories that the controller did not take.
        clamped: limit -> chunks brought within it.
    """

    def __init__(self, setup: NodeSetup, controller: str, stitched: bool) -> None:
        self._parameters = setup.parameters
        self._limits = setup.limits.scaled(
            setup.parameters.velocity_scale, setup.parameters.acceleration_scale
        )
        self._controller = Controller(setup.parameters.joint_names, **CONTROLLERS[controller])
        self._stitched = stitched
        self._gate = MotionEnable()
        self._gate.enable(0.0)
        self._running: Motion | None = None
        self._published_at = 0
        self._stopping = False
        self.boundaries: list[int] = []
        self.published = 0
        self.stops = 0
        self.refused: Counter[str] = Counter()
        self.rejected = 0
        self.clamped: Counter[str] = Counter()

    @property
    def latched(self) -> str:
        """Why nothing will be published any more; "" as long as it is."""
        return self._gate.latched

    def move(self, chunk: ActionChunk, measured: Measured, now: int) -> None:
        """A chunk came out of the policy at `now` (nanoseconds)."""
        try:
            points, motion = self._points(chunk, measured, now)
        except Refusal as refusal:
            self.refused[refusal.reason] += 1
            if refusal.reason in ("nonfinite", "limits"):
                self._gate.reject(self._parameters.reject_latch, refusal.detail)
            return
        self._gate.accept()
        self.published += self._publish(points, motion, now)

    def _points(
        self, chunk: ActionChunk, measured: Measured, now: int
    ) -> tuple[Points, Motion | None]:
        if not self._stitched:
            return self._as_it_is(chunk), None
        p = self._parameters
        planned = plan(
            chunk,
            self._limits,
            Bands(p.max_jump, p.clamp_position, p.clamp_velocity, p.clamp_acceleration),
            measured,
            self._running,
            now,
            p.trajectory_start,
            p.blend,
        )
        self.clamped.update(planned.clamped)
        return self._planned(planned), planned.motion

    def _planned(self, planned: Plan) -> Points:
        t = planned.trajectory
        times = np.array(t.times, dtype=np.int64)
        return Points(self._parameters.joint_names, t.stamp, times, t.positions, t.velocities)

    def _as_it_is(self, chunk: ActionChunk) -> Points:
        """Every step at its time, with the velocities of a smooth path, 0 at the end."""
        step = round(chunk.dt * _SECOND)
        times = step * np.arange(1, len(chunk.positions) + 1, dtype=np.int64)
        velocities = derivative(chunk.positions, chunk.dt)
        velocities[-1] = 0.0
        positions = chunk.positions.astype(np.float64)
        return Points(self._parameters.joint_names, chunk.stamp, times, positions, velocities)

    def _publish(self, points: Points, motion: Motion | None, now: int) -> bool:
        """Whether the controller took it."""
        try:
            self._controller.accept(points, now)
        except Rejected:
            # What was published counts as running: the node cannot know of this.
            self.rejected += 1
            taken = False
        else:
            first = (points.stamp or now) + int(points.times[0])
            self.boundaries += [now, first] if first > now else [now]
            taken = True
        self._running, self._published_at, self._stopping = motion, now, False
        return taken

    def watch(self, measured: Measured, now: int) -> None:
        """Slow what runs down to a stop when no new trajectory came for long."""
        p, running = self._parameters, self._running
        if running is None or self._stopping or now >= running.end:
            return
        if now - self._published_at > p.starve_timeout * _SECOND:
            stopped = stop(self._limits, measured, running, now, p.trajectory_start)
            self._publish(self._planned(stopped), stopped.motion, now)
            self._stopping = True
            self.stops += 1

    def command(self, measured: Measured, now: int) -> np.ndarray:
        """[joints] radians that the controller commands at `now` (nanoseconds)."""
        return self._controller.command(now, measured.positions, measured.velocities)
