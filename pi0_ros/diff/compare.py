"""Two replays compared: the chunks of the same observations, joint by joint and at the tool."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.bags.chunks import RecordedTrajectory
from pi0_ros.bags.results import UNKNOWN_UNIT, Results, TimedChunk, same_images
from pi0_ros.errors import UserError

# [n, joints] rad -> [n, 3] metres and [n, 4] quaternions, as collision.kinematics.Arm has it.
ToolPoses = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class DiffError(UserError, ValueError):
    """Two results cannot be compared; the text gives the reason."""


@dataclass(frozen=True)
class Thresholds:
    """What may differ at most: joints (rad or m), the tool (m, rad), chunks without a partner."""

    joint: float = 0.05
    position: float = 0.03
    angle: float = 0.2
    unmatched: int = 0


@dataclass(frozen=True)
class Difference:
    """What two results differ in; "a" and "b" in the order given.

    Attributes:
        joint_names: columns of `joints`.
        units: of the joints.
        counts: chunks in a and in b.
        stamps: [pairs] int64, ns, of the observations that both have, in order of time.
        joints: [pairs, steps, joints], absolute; NaN where either is not finite.
        position, angle: [pairs, steps] metres and rad at the tool; None without a URDF.
        only_a, only_b: stamps, ns, of chunks without a partner.
        instructions, images: pairs with another instruction, or made from other images.
        trajectories: how many there are in a and in b.
        trajectory_pairs, trajectory: those published at the same times, and the largest difference
            of a point; infinite where they have other points. None without pairs.
        trajectory_joint: which joint differs so much.
    """

    a: str
    b: str
    joint_names: tuple[str, ...]
    units: tuple[str, ...]
    counts: tuple[int, int]
    stamps: np.ndarray
    joints: np.ndarray
    position: np.ndarray | None
    angle: np.ndarray | None
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    instructions: int
    images: int
    trajectories: tuple[int, int]
    trajectory_pairs: int
    trajectory: float | None
    trajectory_joint: str

    def unit(self, joint: str) -> str:
        return dict(zip(self.joint_names, self.units, strict=True)).get(joint, UNKNOWN_UNIT)


@dataclass(frozen=True)
class Frame:
    """A pair that differs: its number from 0, seconds since the first pair, the joint and step."""

    number: int
    stamp: int
    seconds: float
    joint: str
    step: int
    difference: float


def compare(
    a: Results,
    b: Results,
    tool_poses: ToolPoses | None = None,
    units: Mapping[str, str] | None = None,
) -> Difference:
    """Compares the chunks that both have of an observation.

    Observations are the same if their stamps are; of several chunks with one stamp the first is
    compared with the first, and so on.

    Args:
        units: joint -> "rad" or "m"; those that lack are what the results say.

    Raises:
        DiffError: other joints, steps or times, or no observation in common.
    """
    if a.joint_names != b.joint_names:
        raise DiffError(
            f"{a.path} has the joints {', '.join(a.joint_names)}, {b.path}"
            f" {', '.join(b.joint_names)}: these are chunks of different robots or orders"
        )
    pairs, only_a, only_b = match(a.chunks, b.chunks)
    if not pairs:
        raise DiffError(
            f"{a.path} and {b.path} have no observation in common ({_extent(a)}; {_extent(b)}):"
            " are they replays of one recording?"
        )
    shapes = {(len(t.chunk.positions), t.chunk.dt) for pair in pairs for t in pair}
    if len(shapes) > 1:
        steps = " and ".join(f"{count} steps of {dt:g} s" for count, dt in sorted(shapes))
        raise DiffError(f"{a.path} and {b.path} have chunks of {steps}: compare like with like")
    first = np.array([x.chunk.positions for x, _ in pairs], np.float64)
    second = np.array([y.chunk.positions for _, y in pairs], np.float64)
    joints = np.abs(first - second)
    joints[~np.isfinite(joints)] = np.nan
    position, angle = None, None
    if tool_poses is not None:
        position, angle = _at_tool(tool_poses, first, second)
    moved, largest, where = _trajectories(a.trajectories, b.trajectories)
    known = {**a.units, **b.units, **(units or {})}
    return Difference(
        a=str(a.path),
        b=str(b.path),
        joint_names=a.joint_names,
        units=tuple(known.get(name, UNKNOWN_UNIT) for name in a.joint_names),
        counts=(len(a.chunks), len(b.chunks)),
        stamps=np.array([x.chunk.stamp for x, _ in pairs], np.int64),
        joints=joints,
        position=position,
        angle=angle,
        only_a=only_a,
        only_b=only_b,
        instructions=sum(x.chunk.instruction != y.chunk.instruction for x, y in pairs),
        images=sum(
            x.chunk.camera_names != y.chunk.camera_names
            or not same_images(x.camera_stamps, y.camera_stamps)
            for x, y in pairs
        ),
        trajectories=(len(a.trajectories), len(b.trajectories)),
        trajectory_pairs=moved,
        trajectory=largest,
        trajectory_joint=where,
    )


def _extent(results: Results) -> str:
    if not results.chunks:
        return f"all {len(results.rejected)} chunks of {results.path} were rejected"
    return f"the stamps of {results.path} begin at {results.chunks[0].chunk.stamp} ns"


def match(
    a: Sequence[TimedChunk], b: Sequence[TimedChunk]
) -> tuple[list[tuple[TimedChunk, TimedChunk]], tuple[int, ...], tuple[int, ...]]:
    """Pairs of the same observation in order of time, and the stamps that only one has."""
    others: dict[int, list[TimedChunk]] = defaultdict(list)
    for timed in b:
        others[timed.chunk.stamp].append(timed)
    pairs, only_a = [], []
    for timed in a:
        there = others[timed.chunk.stamp]
        if there:
            pairs.append((timed, there.pop(0)))
        else:
            only_a.append(timed.chunk.stamp)
    only_b = sorted(stamp for stamp, left in others.items() for _ in left)
    pairs.sort(key=lambda pair: pair[0].chunk.stamp)
    return pairs, tuple(sorted(only_a)), tuple(only_b)


def _at_tool(
    tool_poses: ToolPoses, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[pairs, steps] metres and radians between the tools; NaN where a joint is not finite."""
    shape = first.shape[:2]
    first, second = first.reshape(-1, first.shape[2]), second.reshape(-1, second.shape[2])
    good = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    (place, turn), (place_b, turn_b) = tool_poses(first[good]), tool_poses(second[good])
    position, angle = np.full(len(first), np.nan), np.full(len(first), np.nan)
    position[good] = np.linalg.norm(place - place_b, axis=1)
    # Quaternions q and -q are one rotation. |q - r| = 2 sin(angle / 4), exact for small angles too.
    sign = np.where((turn * turn_b).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    chord = np.linalg.norm(turn - sign * turn_b, axis=1)
    angle[good] = 4 * np.arcsin(np.minimum(chord / 2, 1.0))
    return position.reshape(shape), angle.reshape(shape)


def _trajectories(
    a: Sequence[RecordedTrajectory], b: Sequence[RecordedTrajectory]
) -> tuple[int, float | None, str]:
    """How many were published at the same time, the largest difference of a point, its joint."""
    others = {trajectory.time: trajectory for trajectory in b}
    largest: list[tuple[float, str]] = []
    for x in a:
        y = others.get(x.time)
        if y is None:
            continue
        same = x.joint_names == y.joint_names and x.start == y.start
        if not same or not np.array_equal(x.times, y.times):
            largest.append((np.inf, ""))
        else:
            ways = np.abs(x.positions - y.positions).max(axis=0, initial=0.0)
            largest.append(max(zip(ways.tolist(), x.joint_names, strict=True), default=(0.0, "")))
    return len(largest), *(max(largest) if largest else (None, ""))


def first_failing(difference: Difference, limits: Thresholds) -> Frame | None:
    """The first pair beyond any threshold, or that is not finite."""
    wrong = (~(difference.joints <= limits.joint)).any(axis=(1, 2))
    if difference.position is not None and difference.angle is not None:
        wrong |= (~(difference.position <= limits.position)).any(axis=1)
        wrong |= (~(difference.angle <= limits.angle)).any(axis=1)
    if not wrong.any():
        return None
    number = int(wrong.argmax())
    values = np.nan_to_num(difference.joints[number], nan=np.inf)
    step, joint = np.unravel_index(int(values.argmax()), values.shape)
    return Frame(
        number=number,
        stamp=int(difference.stamps[number]),
        seconds=float(difference.stamps[number] - difference.stamps[0]) / 1e9,
        joint=difference.joint_names[joint],
        step=int(step),
        difference=float(values[step, joint]),
    )


def failures(difference: Difference, limits: Thresholds) -> list[str]:
    """Sentences about every threshold that is exceeded; empty when none is."""
    found = []
    for joint, name in enumerate(difference.joint_names):
        largest = difference.joints[..., joint].max()
        if not largest <= limits.joint:
            unit = difference.units[joint]
            found.append(f"{name} differs by {largest:.4g} {unit}, allowed are {limits.joint:g}")
    for what, values, limit, unit in (
        ("position", difference.position, limits.position, "m"),
        ("angle", difference.angle, limits.angle, "rad"),
    ):
        if values is not None and not values.max() <= limit:
            largest = f"{values.max():.4g} {unit}"
            found.append(f"the tool's {what} differs by {largest}, allowed are {limit:g}")
    alone = len(difference.only_a) + len(difference.only_b)
    if alone > limits.unmatched:
        found.append(
            f"{alone} chunks have no partner ({len(difference.only_a)} only in A,"
            f" {len(difference.only_b)} only in B), allowed are {limits.unmatched}"
        )
    if difference.trajectory is not None and not difference.trajectory <= limits.joint:
        found.append(
            "trajectories published at one time differ by"
            f" {trajectory_text(difference)}, allowed are {limits.joint:g}"
        )
    return found


def trajectory_text(difference: Difference) -> str:
    """The largest difference of trajectories, with the joint that has it."""
    joint = difference.trajectory_joint
    if not joint:
        return f"{difference.trajectory:.4g}: they have other points"
    return f"{difference.trajectory:.4g} {difference.unit(joint)} ({joint})"


def summary(values: np.ndarray | None) -> dict[str, Any] | None:
    """max and mean, as JSON has them: null where a value is not finite."""
    if values is None:
        return None
    numbers = {"max": float(values.max()), "mean": float(values.mean())}
    return {key: value if np.isfinite(value) else None for key, value in numbers.items()}
