"""Whether a chunk is one to execute: passed on, brought within the limits, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.policy.types import ActionChunk


@dataclass(frozen=True)
class Tolerances:
    """How far a chunk may exceed the limits and is still brought within them.

    Attributes:
        max_jump: radians between the measured joint and the nearest of the chunk's steps up to the
            splice point; a number or [joints] numbers.
        clamp_position: radians beyond a position limit.
        clamp_velocity: times the velocity limit.
        clamp_acceleration: times the acceleration limit.
    """

    max_jump: float | np.ndarray
    clamp_position: float
    clamp_velocity: float
    clamp_acceleration: float


def check_shape(chunk: ActionChunk, steps: int, joints: int) -> None:
    """Raises Refusal (failed) unless the positions are [steps, joints]."""
    if chunk.positions.shape != (steps, joints):
        raise Refusal(
            Reason.FAILED,
            f"the policy returned positions of shape {list(chunk.positions.shape)},"
            f" expected {[steps, joints]} (steps, joints)",
        )


def check_finite(chunk: ActionChunk, joints: Sequence[str]) -> None:
    """Raises Refusal (nonfinite) if the policy returned NaN or Inf."""
    finite = np.isfinite(chunk.positions)
    if not finite.all():
        bad = np.argwhere(~finite)
        step, joint = bad[0]
        raise Refusal(
            Reason.NONFINITE,
            f"the policy returned {chunk.positions[step, joint]} for step {step}, joint"
            f" {joints[joint]} ({len(bad)} of {chunk.positions.size} values are not finite)",
        )


def check_measured(measured: Measured, joints: Sequence[str]) -> None:
    """Raises Refusal (malformed) if the measured state has NaN or Inf."""
    if not is_finite(measured):
        states = zip(joints, measured.positions, measured.velocities, strict=True)
        bad = [f"{name}: {p}, velocity {v}" for name, p, v in states if not np.isfinite(p + v)]
        raise Refusal(Reason.MALFORMED, f"the joint state is not finite: {'; '.join(bad)}")


def is_finite(measured: Measured) -> bool:
    """Whether the measured state holds numbers only."""
    return bool(np.isfinite([measured.positions, measured.velocities]).all())


def judge(
    positions: np.ndarray,
    dt: float,
    limits: JointLimits,
    tolerances: Tolerances,
    places: Sequence[np.ndarray],
    splice_step: int,
) -> None:
    """Refuse a chunk that exceeds a limit by more than may be clamped.

    The whole chunk counts, steps that are past too: one part that is wrong by far makes the rest of
    it suspect. What splicing adds does not count.

    Args:
        positions: [steps, joints] float64, radians, the chunk's.
        dt: seconds between two steps.
        places: [joints] radians each: where the joints are measured, and where the setpoint is. The
            chunk is to be near one of them; the first is named.
        splice_step: the step at the splice point.

    Raises:
        Refusal: limits, naming joint, step, value and limit.
    """
    here, at = places[0], np.array(places)
    with np.errstate(over="ignore", invalid="ignore"):
        # An arm that follows is at the splice point's step, one that waited for its first chunk is
        # still at the first one.
        ways = np.abs(positions[: splice_step + 1] - at[:, None]).min(axis=0)
        jumps = ways.min(axis=0)[None]
        # An arm that rests beyond a limit is not refused its way back.
        lower = np.minimum(limits.lower, at.min(axis=0))
        upper = np.maximum(limits.upper, at.max(axis=0))
        out = np.maximum(positions - upper, lower - positions)
        steps = positions[1:] - positions[:-1]
        rates = np.abs(steps) / dt
        changes = np.abs(steps[1:] - steps[:-1]) / dt**2

    if found := _worst(jumps, tolerances.max_jump):
        joint = found[1]
        step, unit = int(ways[:, joint].argmin()), limits.units[joint]
        raise _refusal(
            f"{_name(limits, joint, step)}: {positions[step, joint]:.3f} {unit} is"
            f" {jumps[0, joint]:.3f} {unit} from the measured {here[joint]:.3f} {unit}",
            f"max_jump is {np.broadcast_to(tolerances.max_jump, here.shape)[joint]:g} {unit}",
        )
    if found := _worst(out, tolerances.clamp_position):
        step, joint = found
        unit = limits.units[joint]
        raise _refusal(
            f"{_name(limits, joint, step)}: {positions[found]:.3f} {unit} is {out[found]:.3f}"
            f" {unit} outside [{lower[joint]:.3f}, {upper[joint]:.3f}] {unit}",
            f"clamp_position is {tolerances.clamp_position:g} {unit}",
        )
    for kind, per, values, limit, factor in (
        ("velocity", "/s", rates, limits.velocity, tolerances.clamp_velocity),
        ("acceleration", "/s^2", changes, limits.acceleration, tolerances.clamp_acceleration),
    ):
        if found := _worst(values, limit * factor):
            step, joint = found
            unit = limits.units[joint] + per
            raise _refusal(
                f"{_name(limits, joint, step + 1)}: {kind} {values[found]:.3f} {unit},"
                f" the limit is {limit[joint]:g} {unit}",
                f"clamp_{kind} is {factor:g} times that",
            )


def _worst(values: np.ndarray, limit: float | np.ndarray) -> tuple[int, int] | None:
    """Where [steps, joints] values exceed a limit most, or None."""
    excess = values - limit
    if not excess.size or not excess.max() > 0:
        return None
    step, joint = np.unravel_index(excess.argmax(), excess.shape)
    return int(step), int(joint)


def _name(limits: JointLimits, joint: int, step: int) -> str:
    return f"joint {limits.names[joint]}, step {step}"


def _refusal(what: str, allowed: str) -> Refusal:
    return Refusal(Reason.LIMITS, f"{what}; {allowed}")
