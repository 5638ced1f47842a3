"""The emulated joint_trajectory_controller: trajectories in, commanded joint positions out.

Written from the rules of joint_trajectory_controller (ros2_controllers) with a position command
interface. `test/unit/sim/jtc_vectors.json.gz` has what the real one commanded in five versions; the
emulation equals it. Not emulated: the action interface, speed scaling, gains, joints with angle
wraparound, deceleration on cancel. It is stricter than the real one where that would go astray:
numbers that are not finite and names given twice are rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.sim.points import Checks, Points
from pi0_ros.sim.versions import VERSIONS, Parameters, Replacement
from pi0_ros.sim.waypoints import SECOND, Waypoints


@dataclass(frozen=True)
class _Goal:
    """A trajectory in the order of the controller's joints.

    Attributes:
        stamp: as in `Points`.
        times: [points] int64 nanoseconds.
        states: [points, 3, joints], as in `Waypoints`.
        named: [joints] bool; columns of other joints are not filled in yet.
        hold: the controller's own, which holds a position.
    """

    stamp: int
    times: np.ndarray
    states: np.ndarray
    named: np.ndarray
    hold: bool = False


class Controller:
    """Executes one trajectory after the other.

    Args:
        joints: whose positions are commanded, in the order of the commands.
        version: a key of VERSIONS.
        period: nanoseconds between two cycles as configured (update_rate).
        parameters: of the controller.
    """

    def __init__(
        self,
        joints: Sequence[str],
        version: str = "jazzy",
        period: int = 10_000_000,
        parameters: Parameters | None = None,
    ) -> None:
        self.joints = tuple(joints)
        self._rules = VERSIONS[version]
        self._parameters = parameters = parameters or Parameters()
        moving_end = parameters.allow_nonzero_velocity_at_trajectory_end
        self._checks = Checks(
            self.joints,
            parameters.allow_partial_joints_goal,
            self._rules.moving_end if moving_end is None else moving_end,
            self._rules.past_first,
        )
        self._replacement = Replacement.AT_ONCE
        if parameters.allow_trajectory_replacement:
            self._replacement = self._rules.replacement
        self._ahead = period if self._rules.ahead else 0
        self._new: _Goal | None = None  # arrived, not seen by a cycle
        self._waiting: _Goal | None = None  # seen, not due
        self._path: Waypoints | None = None  # executing
        self._points = 0  # of the executing trajectory's own
        self._holding = False  # after a violated tolerance
        self._cycle = 0  # nanoseconds of the last cycle
        self._commanded_at = 0  # of the last cycle that commanded something
        self._commanded: tuple[Waypoints, int]  # what that was: the path and the time on it

    @property
    def due(self) -> int | None:
        """Nanoseconds when a trajectory that waits replaces the executing one; None: none waits."""
        return None if self._waiting is None else self._waiting.stamp

    @property
    def has_new(self) -> bool:
        """Whether the next cycle will see a trajectory for the first time."""
        return self._new is not None

    @property
    def commanded(self) -> np.ndarray:
        """[3, joints] position, velocity and acceleration of the last command."""
        path, time = self._commanded
        return path.state(time)

    def accept(self, points: Points, now: int) -> None:
        """Takes a trajectory that arrives at `now` (nanoseconds); the next cycle sees it.

        Raises:
            Rejected: it is not valid; what was executed before goes on.
        """
        self._checks.check(points, now)
        columns = [self.joints.index(name) for name in points.names]
        states = np.full((len(points.times), 3, len(self.joints)), np.nan)
        states[:, 0, columns] = points.positions
        if points.velocities is not None:
            states[:, 1, columns] = points.velocities
        named = np.isin(np.arange(len(self.joints)), columns)
        self._new = _Goal(points.stamp, np.asarray(points.times, np.int64), states, named)
        self._holding = False

    def command(
        self, now: int, measured: np.ndarray, velocities: np.ndarray | None = None
    ) -> np.ndarray:
        """One cycle; before any trajectory it holds where the joints were in the first cycle.

        Args:
            now: nanoseconds, not decreasing from call to call.
            measured: [joints] radians.
            velocities: [joints] radians per second, measured; None: there is no velocity state
                interface.

        Returns:
            [joints] float64 radians.
        """
        measured = np.asarray(measured, dtype=np.float64)
        if measured.shape != (len(self.joints),):
            raise ValueError(f"measured must be [{len(self.joints)}], got {list(measured.shape)}")
        state = np.full((3, len(measured)), np.nan)
        state[0] = measured
        if velocities is not None:
            state[1] = velocities
        if self._path is None:
            self._activate(now, state)
        goal = self._take(now)
        if goal is not None:
            self._begin(goal, now, state)
        self._cycle = now
        if self._violated(now, measured, first=goal is not None):
            self._hold(measured)
        else:
            self._commanded, self._commanded_at = (self._path, now + self._ahead), now
        path, time = self._commanded
        return path.position(time)

    def commands(
        self, times: np.ndarray, measured: np.ndarray, velocities: np.ndarray | None = None
    ) -> np.ndarray:
        """Successive cycles between which nothing arrives; much faster than one by one.

        Args:
            times: [n] int64 nanoseconds of the cycles.
            measured, velocities: at the first of them, as in `command`.

        Returns:
            [n, joints] float64 radians.

        Raises:
            ValueError: a trajectory becomes due after the first cycle, or there are tolerances,
                for which every cycle needs what is measured.
        """
        if self._parameters.path_tolerance or self._parameters.goal_tolerance:
            raise ValueError("with tolerances every cycle needs what is measured: use command")
        first = self.command(int(times[0]), measured, velocities)
        last = int(times[-1])
        if self._waiting is not None and self._waiting.stamp <= last:
            raise ValueError(f"a trajectory is due at {self._waiting.stamp}: end before it")
        self._cycle = self._commanded_at = last
        self._commanded = (self._path, last + self._ahead)
        return np.concatenate([first[None], self._path.positions(times[1:] + self._ahead)])

    def _activate(self, now: int, state: np.ndarray) -> None:
        """Hold the measured state. What has come already replaces it as if nothing executed."""
        held = state.copy()
        held[1:] = np.nan
        self._path, self._points = Waypoints(np.array([now]), held[None]), 1
        self._commanded, self._commanded_at = (Waypoints(np.array([now]), state[None]), now), now
        self._cycle = now

    def _take(self, now: int) -> _Goal | None:
        """The trajectory that replaces the executing one in this cycle."""
        new, self._new = self._new, None
        if new is not None and not new.hold:
            if self._replacement is Replacement.WHEN_DUE and new.stamp > now:
                self._waiting, new = new, None
            else:
                self._waiting = None
        if self._waiting is not None and now >= self._waiting.stamp:
            new, self._waiting = self._waiting, None
        return new

    def _begin(self, goal: _Goal, now: int, measured: np.ndarray) -> None:
        """Execute a trajectory from this cycle on."""
        if self._replacement is Replacement.BLEND and self._points > 1 and not goal.hold:
            goal = self._blended(goal, now)
        else:
            path, time = self._commanded
            _fill(goal, path.position(time)[None], np.zeros((1, len(self.joints))))
        times, states = goal.times + (goal.stamp or now), goal.states
        self._points = len(times)
        start, before = now, measured
        if self._parameters.interpolate_from_desired_state:
            start, before = now if self._rules.desired_now else self._commanded_at, self.commanded
        if start < times[0]:
            # Without a velocity, or acceleration, it counts as 0 where the first point has one.
            before = np.where(np.isnan(before) & ~np.isnan(states[0]), 0.0, before)
            times = np.concatenate([[start], times])
            states = np.concatenate([before[None], states])
        self._path = Waypoints(times, states)

    def _blended(self, goal: _Goal, now: int) -> _Goal:
        """The executing trajectory up to the start of a new one, then that, as one that starts now.

        The times of the old one count from where it was in the last cycle: each replacement delays
        it by a period.
        """
        old, cursor = self._path, self._cycle
        start = cursor + max(goal.stamp - now, 0)
        times = start + goal.times
        passed = (cursor < old.times) & (old.times < start)
        parts = [(old.times[passed], old.states[passed])]
        if start < times[0]:
            parts.append((np.array([start]), old.state(start)[None]))
        parts.append((times, goal.states))
        if not goal.named.all():
            sampled = np.array([old.state(int(time)) for time in times])
            _fill(goal, sampled[:, 0], sampled[:, 1])
            later = old.times > times[-1]
            rest = old.states[later].copy()
            rest[:, 0, goal.named] = goal.states[-1, 0, goal.named]
            rest[:, 1:, goal.named] *= 0.0  # what is not given stays NaN
            parts.append((old.times[later], rest))
        times, states = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _Goal(0, times - cursor, states, np.ones_like(goal.named))

    def _violated(self, now: int, measured: np.ndarray, first: bool) -> bool:
        """Whether a tolerance is, which ends the execution of the trajectory."""
        limits = self._parameters
        if self._holding or not (limits.path_tolerance or limits.goal_tolerance):
            return False
        error = np.abs(self._path.position(now) - measured).max()
        ended = now + self._ahead >= self._path.end
        off_path = error > limits.path_tolerance > 0 and (first or not ended)
        late = 0 < limits.goal_time < (now - self._path.end) / SECOND
        return bool(off_path or (ended and late and error > limits.goal_tolerance > 0))

    def _hold(self, measured: np.ndarray) -> None:
        """Go to the measured position in the next cycle, unless a trajectory comes before."""
        state = np.full((1, 3, len(measured)), np.nan)
        state[0, 0] = measured
        named = np.ones(len(measured), dtype=bool)
        self._new = _Goal(0, np.zeros(1, dtype=np.int64), state, named, hold=True)
        self._holding = True


def _fill(goal: _Goal, positions: np.ndarray, velocities: np.ndarray) -> None:
    """Fill in the joints left out, with velocities where the points have them."""
    left_out = ~goal.named
    goal.states[:, 0, left_out] = positions[:, left_out]
    given = ~np.isnan(goal.states[:, 1, goal.named]).any(axis=1)[:, None]
    goal.states[:, 1, left_out] = np.where(given, velocities[:, left_out], np.nan)
