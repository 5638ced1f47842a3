"""An episode: the executor as the node uses it, a controller, an arm, and what goes wrong.

All times are integer nanoseconds of a true clock; the node's and the controller's may be off it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pi0_ros.motion.spline import Trajectory
from pi0_ros.policy.types import ActionChunk
from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points, Rejected
from support.closed_loop.arm import Arm
from support.closed_loop.conditions import TAIL, Conditions
from support.closed_loop.families import draw
from support.closed_loop.judge import (
    Bounds,
    Excuse,
    Verdict,
    apart_since,
    judge,
    late_to_rest,
)
from support.closed_loop.node import Node, settings_of
from support.closed_loop.policies import Policy

BEGIN = 1_790_000_000_123_456_789
TICK = 0.02
"""Seconds between two calls of `Executor.tick`."""
NOTICE = 1.0
"""Seconds, and `tracking_timeout` on top, in which an arm that does not follow must be noticed."""
APART = 1.5
"""Times `tracking_tolerance`: an arm that is further off than that does not follow."""
MOVES = 0.005
"""Radians of command that are motion again."""


@dataclass(frozen=True)
class Outcome:
    """What came of an episode.

    Attributes:
        verdict: of the judge on the commands.
        latches: (seconds, fault), those that nobody asked for.
        overdue: the fault that was not noticed in time; "" if none.
        recovered: whether it moved again after the last incident; None where it need not.
        refused: reason -> chunks.
        problems: everything that must not be.
    """

    conditions: Conditions
    verdict: Verdict
    latches: tuple[tuple[float, str], ...]
    overdue: str
    recovered: bool | None
    refused: Counter[str]
    problems: tuple[str, ...]


class Episode:
    """Plays one; `run` once.

    Args:
        node_type: another than the real one, to see whether the judge sees it.
    """

    def __init__(self, conditions: Conditions, seed: int, node_type: type[Node] = Node) -> None:
        self._node_type = node_type
        self._rng = np.random.default_rng(seed)
        self._c = c = conditions
        self._settings = settings_of(c)
        self._period = round(1e9 / c.rate)
        self._arm = Arm(c, self._rng)
        self._policy = Policy(c, self._rng)
        self._node = self._new_node()
        self._node_clock = 0  # nanoseconds that the clocks are ahead of the true one
        self._controller_clock = round(c.clock_offset * 1e9)
        self._controller = self._new_controller()
        self._end = BEGIN + round(c.seconds * 1e9)
        count = round(c.seconds * c.rate)
        jitter = self._rng.uniform(-1, 1, count) * c.jitter * self._period / 2
        self._times = BEGIN + np.arange(count) * self._period + jitter.astype(np.int64)
        self._seconds = np.diff(self._times, prepend=self._times[0] - self._period) / 1e9
        self._commands = np.full((count, len(c.start)), np.nan)
        self._done = 0
        self._silent_states_until = self._policy_hangs_until = 0
        self._epoch = 0
        self._sequence = 0
        self._robot_away_until = 0  # nothing hears a trajectory
        self._delivered = self._seen = 0  # when the last trajectory, and joint state, arrives
        self._excused: list[Excuse] = []
        # What a node that just began, or whose clock jumped, cannot know of the controller.
        self._setpoint_unknown = self._turns_unknown = True
        self._latches: list[tuple[float, str]] = []
        self._odd: set[str] = set()  # messages that must not be
        self._asked = False  # for the fault that is latched
        self._recover_from: int | None = None
        self._slow: tuple[tuple[int, ...], int] = (), 0  # joints that do not follow, since when
        self._stop: tuple[int, int] | None = None  # from an emergency stop to its release
        self._queue: list[tuple[int, int, str, Any]] = []
        self._count = 0

    # ---- time -----------------------------------------------------------------------------------

    def _in(self, seconds: float, time: int, kind: str, value: Any = None) -> int:
        """Let something happen some seconds after a time; returns when."""
        self._count += 1
        at = time + round(seconds * 1e9)
        heapq.heappush(self._queue, (at, self._count, kind, value))
        return at

    def run(self) -> Outcome:
        """Play it, and judge it."""
        c = self._c
        self._in(0.0, BEGIN, "state")
        self._in(0.007, BEGIN, "tick")
        self._in(float(self._rng.uniform(0.15, 0.2)), BEGIN, "observe")
        for incident in c.incidents:
            self._in(incident.at, BEGIN, incident.kind, incident.value)
        while self._queue:
            time, _, kind, value = heapq.heappop(self._queue)
            if time >= self._end:
                break
            getattr(self, f"_on_{kind}")(time, value)
        self._advance(self._end)
        return self._outcome()

    def _advance(self, until: int) -> None:
        """The cycles before a time."""
        last = int(np.searchsorted(self._times, until))
        while self._done < last:
            cut = last
            due = self._controller.due
            if due is not None:
                at = int(np.searchsorted(self._times, due - self._controller_clock))
                cut = min(last, max(at, self._done + 1))
            elif self._controller.has_new:
                cut = self._done + 1  # whether it waits is known after this cycle
            rows = slice(self._done, cut)
            commands = self._controller.commands(
                self._times[rows] + self._controller_clock, *self._arm.sensed()
            )
            self._commands[rows] = commands
            self._arm.follow(self._seconds[rows], commands)
            self._done = cut

    def _new_node(self) -> Node:
        node = self._node_type(self._c, self._settings)
        node.enable.enable(0.0)
        return node

    def _new_controller(self) -> Controller:
        form = self._c.form
        joints = tuple(f"joint_{i}" for i in range(len(self._c.start)))
        return Controller(joints, form.version, self._period, form.parameters)

    # ---- what happens again and again -----------------------------------------------------------

    def _on_state(self, time: int, _: Any) -> None:
        """The encoders are read."""
        self._advance(time)
        self._in(1 / self._c.state_rate, time, "state")
        positions, velocities = self._arm.measured()
        if time < self._silent_states_until:
            return
        sample = (time + self._node_clock, positions, velocities, self._epoch)
        delay = max(self._rng.uniform(*self._c.state_delay), (self._seen - time) / 1e9)  # in order
        self._seen = self._in(delay, time, "see", sample)

    def _on_see(self, time: int, sample: Any) -> None:
        *state, epoch = sample
        if epoch == self._epoch:
            self._node.see(*state, time + self._node_clock)

    def _on_tick(self, time: int, _: Any) -> None:
        self._in(TICK, time, "tick")
        self._send(self._node.tick(time + self._node_clock), time)
        self._watch(time)

    def _on_observe(self, time: int, _: Any) -> None:
        """The policy looks, and answers later; meanwhile it is busy."""
        c = self._c
        if time >= self._end - TAIL * 1e9:
            return
        inference = self._rng.uniform(*c.inference)
        ticks = max(1, int(np.ceil(inference * c.policy_rate)))
        self._in(ticks / c.policy_rate, time, "observe")
        seen = self._node.observe(time + self._node_clock)
        if seen is None or time < self._policy_hangs_until:
            return
        positions = self._policy.chunk((time - BEGIN) / 1e9, seen)
        stamp = time + self._node_clock
        chunk = ActionChunk(positions.astype(np.float32), c.dt, stamp, self._sequence, 0)
        self._sequence += 1
        self._in(inference, time, "chunk", (chunk, self._epoch))

    def _on_chunk(self, time: int, value: Any) -> None:
        chunk, epoch = value
        if epoch == self._epoch:
            trajectory = self._node.chunk(chunk, time + self._node_clock)
            if trajectory is not None and len(trajectory.times) != self._c.horizon:
                self._odd.add(f"a trajectory has {len(trajectory.times)} points")
            self._send(trajectory, time)
            self._watch(time)

    def _send(self, trajectory: Trajectory | None, time: int) -> None:
        if trajectory is None or self._rng.random() < self._c.loss:
            return
        way = max(self._rng.uniform(*self._c.transport), (self._delivered - time) / 1e9)  # in order
        first = self._setpoint_unknown and time >= self._robot_away_until
        self._setpoint_unknown = self._setpoint_unknown and not first
        self._delivered = self._in(way, time, "deliver", (trajectory, first, self._node_clock))

    def _on_deliver(self, time: int, value: tuple[Trajectory, bool, int]) -> None:
        self._advance(time)
        trajectory, first, clock = value
        if time < self._robot_away_until or clock != self._node_clock:
            return  # nobody hears it; what was under way when the clock jumped is lost
        points = Points(
            self._controller.joints,
            trajectory.stamp,
            np.array(trajectory.times, dtype=np.int64),
            trajectory.positions,
            trajectory.velocities,
        )
        try:
            self._controller.accept(points, time + self._controller_clock)
        except Rejected as rejected:
            self._odd.add(f"the controller rejects a trajectory: {rejected.reason.value}")
            return
        if first:
            turns = bool(self._c.wraps.any()) and self._turns_unknown
            blur = self._c.blur + self._c.blur_on_return
            self._excused.append(Excuse(time, time + 3 * self._period, blur, turns))

    def _watch(self, time: int) -> None:
        """Note a fault that latched."""
        latched = self._node.enable.latched
        if latched and not self._asked:
            self._latches.append(((time - BEGIN) / 1e9, latched))
            self._asked = True

    # ---- incidents ------------------------------------------------------------------------------

    def _on_glitch(self, time: int, value: tuple[int, float, int]) -> None:
        self._arm.glitch(*value)

    def _on_scales(self, time: int, value: tuple[float, float]) -> None:
        velocity, acceleration = value
        self._settings = replace(
            self._settings, velocity_scale=velocity, acceleration_scale=acceleration
        )
        self._node.executor.settings = self._settings

    def _on_emergency_stop(self, time: int, _: Any) -> None:
        self._asked = True
        self._stop = time, self._end
        self._node.enable.emergency_stop(True)
        self._send(self._node.tick(time + self._node_clock), time)

    def _on_reset(self, time: int, _: Any) -> None:
        enable = self._node.enable
        enable.emergency_stop(False)
        enable.reset()
        enable.enable(0.0)
        self._asked = False
        self._recover_from = time
        self._stop = self._stop and (self._stop[0], min(self._stop[1], time))

    def _on_disable(self, time: int, _: Any) -> None:
        self._node.enable.disable("an operator")
        self._send(self._node.tick(time + self._node_clock), time)

    def _on_enable(self, time: int, _: Any) -> None:
        self._node.enable.enable(0.0)
        self._recover_from = time

    def _on_hang(self, time: int, seconds: float) -> None:
        self._policy_hangs_until = self._recover_from = time + round(seconds * 1e9)

    def _on_no_states(self, time: int, seconds: float) -> None:
        self._silent_states_until = self._recover_from = time + round(seconds * 1e9)

    def _on_restart(self, time: int, seconds: float) -> None:
        """The node's process is another one; it hears nothing while it starts."""
        self._node = self._new_node()
        self._setpoint_unknown = self._turns_unknown = True
        self._asked = False
        self._silent_states_until = self._recover_from = time + round(seconds * 1e9)
        self._epoch += 1

    def _on_clock(self, time: int, seconds: float) -> None:
        """The clock of all programs jumps; the controller begins anew and holds its command."""
        self._advance(time)
        self._epoch += 1
        self._node_clock += round(seconds * 1e9)
        self._controller_clock += round(seconds * 1e9)
        self._node.jump()
        self._setpoint_unknown, self._turns_unknown = True, False
        self._restart_controller(time, self._commands[self._done - 1])
        self._recover_from = time

    def _on_controller_restarts(self, time: int, _: Any) -> None:
        self._advance(time)
        self._restart_controller(time, self._arm.positions)

    def _on_robot_restarts(self, time: int, seconds: float) -> None:
        """Controller and joint states go; the arm stands, and is held there from the return on."""
        self._advance(time)
        back = time + round(seconds * 1e9)
        self._silent_states_until = self._robot_away_until = self._recover_from = back
        self._restart_controller(time, self._arm.positions)
        self._setpoint_unknown, self._turns_unknown = True, False

    def _restart_controller(self, time: int, held: np.ndarray) -> None:
        self._controller = self._new_controller()
        self._controller.command(time + self._controller_clock, held)
        self._excused.append(Excuse(time - 2 * self._period, time + 2 * self._period, np.inf))

    def _on_slow_down(self, time: int, value: tuple[tuple[int, ...], float]) -> None:
        self._advance(time)
        joints, share = value
        self._arm.slow_down(joints, share)
        self._slow = joints, time

    # ---- what came of it ------------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        c = self._c
        hardest = c.acceleration * max(c.emergency_acceleration_scale, 1.0)
        bounds = Bounds(c.lower, c.upper, c.velocity, hardest)
        verdict = judge(self._times, self._commands, bounds, self._excused)
        problems = [] if c.free else [*verdict.problems, *sorted(self._odd)]
        if self._stop and not c.free:
            # The message, until it takes effect, two cycles, and the last step, which is softer.
            reaction = c.transport[1] + c.splice_lead + 2 / c.rate + c.dt
            late = late_to_rest(self._times, self._commands, hardest, *self._stop, reaction)
            problems += [late] if late else []
        overdue = self._overdue()
        if c.latch == "never" and not c.free:
            problems += [f"false latch at {at:.2f} s: {fault}" for at, fault in self._latches]
        if overdue:
            problems.append(overdue)
        recovered = None
        if self._recover_from is not None and not self._latches:
            after = self._times >= self._recover_from
            recovered = bool(np.ptp(self._commands[after], axis=0).max() > MOVES)
            slow = any(incident.kind == "scales" for incident in c.incidents)
            if not (recovered or slow or c.free) and c.policy == "wave":
                problems.append("it does not move again")
        return Outcome(
            c,
            verdict,
            tuple(self._latches),
            overdue,
            recovered,
            self._node.refused,
            tuple(problems),
        )

    def _overdue(self) -> str:
        """Whether an arm that did not follow went unnoticed."""
        joints, since = self._slow
        if self._c.latch != "must":
            return ""
        settings, rows = self._settings, self._times >= since
        for joint in joints:
            apart = apart_since(
                self._times[rows],
                self._commands[rows, joint],
                np.array(self._arm.history)[rows, joint],
                APART * settings.tracking_tolerance,
                settings.tracking_lag,
            )
            if apart is None:
                continue
            deadline = (apart - BEGIN) / 1e9 + settings.tracking_timeout + NOTICE
            noticed = bool(self._latches) and self._latches[0][0] <= deadline
            if not noticed and deadline < self._c.seconds:
                at = (apart - BEGIN) / 1e9
                return f"joint {joint} did not follow from {at:.2f} s on, and no fault latched"
        return ""


def play(family: str, seed: int) -> Outcome:
    """The episode of a family and a seed."""
    return Episode(draw(family, seed), seed).run()
