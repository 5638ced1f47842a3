"""Whether a motion would make links of the robot hit each other, or take the tool out of its box.

Between two samples no point of a link moves further than twice the margin, and links closer than
the margin count as hitting each other. So what hits between two samples is seen at one of them.
How far a link moves is bounded by the sum over the joints of what each moves: its way in radians
times the largest distance of a shape from it in any pose, or its way in metres.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.collision.kinematics import Arm, read_arm
from pi0_ros.collision.pairs import of_srdf, without_neighbours
from pi0_ros.collision.shapes import collision_shapes
from pi0_ros.errors import ProblemsError
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.motion.spline import Motion

MOST_NAMED = 50
"""Pairs that an error names at most."""

_AXES = "xyz"
_COLLISION = re.compile(r"(\S+) and (\S+) would collide at step (\d+) of (\d+)")


def colliding(text: str) -> tuple[str, str, float] | None:
    """Two links, and the share of the motion after which they collide, of a refusal's text."""
    found = _COLLISION.search(text)
    return found and (found[1], found[2], int(found[3]) / max(int(found[4]), 1))


class CollisionCheck:
    """Judges motions: `check(motion)` is a Refusal, or None.

    Attributes:
        pairs: of links that are compared, in alphabetical order.
        unshaped: links without a shape, which are not compared.
    """

    def __init__(
        self,
        urdf: Path,
        joints: Sequence[str],
        *,
        self_collision: bool = True,
        srdf: Path | None = None,
        margin: float = 0.01,
        box: Sequence[float] = (),
        tool: str = "",
        reference: Sequence[float] = (),
    ) -> None:
        """Read the robot.

        Args:
            joints: columns of the motions; the robot's other joints stand at zero.
            srdf: says which pairs are compared; None: all but neighbours.
            margin: metres between two links that count as a hit; half of what a link moves
                between two samples.
            box: xmin, ymin, zmin, xmax, ymax, zmax in metres in the frame of the root link, in
                which the tool has to stay; empty: anywhere.
            tool: a link; see `pi0_ros.motion.urdf.tool_link`.
            reference: [joints] a pose in which no pair may collide.

        Raises:
            ProblemsError: lists everything that is wrong.
        """
        try:
            self._arm = read_arm(urdf, joints, tool)
            self._margin = margin
            self._box = np.reshape(np.asarray(box, np.float64), (-1, 3))
            self.pairs: tuple[tuple[str, str], ...] = ()
            self.unshaped: tuple[str, ...] = ()
            self._geometry = None
            if self_collision:
                self._prepare(urdf, srdf)
            self._reach = _reach(self._arm, self._geometry)
        except OSError as error:
            raise ProblemsError([f"{error.filename}: {error.strerror}"]) from error
        self._check_reference(np.array([reference if len(reference) else np.zeros(len(joints))]))

    def __call__(self, motion: Motion) -> Refusal | None:
        """What the motion would hit first, or where the tool would leave its box first."""
        times, steps = self.sample_times(motion)
        positions, _ = motion.sample_all(times)
        configurations = self._arm.configurations(positions)
        count = len(motion.times)
        if len(self._box):
            for row, configuration in enumerate(configurations):
                place = self._arm.tool_place(configuration)
                if np.any(place < self._box[0]) or np.any(place > self._box[1]):
                    at = f"at step {steps[row]} of {count}"
                    return Refusal(Reason.WORKSPACE, f"{self._outside(place)} {at}")
        if self._geometry is not None:
            for row, configuration in enumerate(configurations):
                if self._collides(configuration):
                    first, second = self._hits(configuration)[0]
                    return Refusal(
                        Reason.COLLISION,
                        f"{first} and {second} would collide at step {steps[row]} of {count}"
                        f" (closer than {self._margin:g} m)",
                    )
        return None

    def sample_times(self, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds, and the step (from 1) that each belongs to."""
        if len(motion.times) < 2:
            return motion.times, np.ones(len(motion.times), np.int64)
        seconds = np.diff(motion.times) / 1e9
        moved = (motion.peaks().velocity @ self._reach) * seconds
        parts = np.maximum(np.ceil(moved / (2 * self._margin)), 1).astype(np.int64)
        begins = np.repeat(motion.times[:-1], parts)
        lengths = np.repeat(np.diff(motion.times) // parts, parts)
        number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        steps = np.repeat(np.arange(1, len(motion.times)), parts) + (number > 0)
        times = np.append(begins + number * lengths, motion.times[-1])
        return times, np.append(steps, len(motion.times))

    def _prepare(self, urdf: Path, srdf: Path | None) -> None:
        """The pairs of shapes, and what pinocchio computes their distances with."""
        import pinocchio

        arm = self._arm
        geometry = collision_shapes(arm, urdf)
        links = [arm.model.frames[item.parentFrame].name for item in geometry.geometryObjects]
        self.unshaped = tuple(link for link in arm.urdf.links if link not in links)
        wanted = without_neighbours(arm.urdf) if srdf is None else _read_srdf(arm, srdf)
        for first, one in enumerate(geometry.geometryObjects):
            for second in range(first + 1, len(links)):
                # Links that hang on the same joint of the model never move against each other.
                apart = one.parentJoint != geometry.geometryObjects[second].parentJoint
                if apart and frozenset((links[first], links[second])) in wanted:
                    geometry.addCollisionPair(pinocchio.CollisionPair(first, second))
        self._links = links
        compared = {self._names(pair) for pair in geometry.collisionPairs}
        self.pairs = tuple(sorted(compared))
        self._pin, self._geometry = pinocchio, geometry
        self._data, self._shapes = arm.model.createData(), geometry.createData()
        for request in self._shapes.collisionRequests:
            request.security_margin = self._margin
        # Compares bounding boxes first; robots of many shapes need a fifth of the time.
        manager = getattr(pinocchio, "BroadPhaseManager_DynamicAABBTreeCollisionManager", None)
        self._manager = manager and manager(arm.model, geometry, self._shapes)

    def _names(self, pair: Any) -> tuple[str, str]:
        first, second = sorted((self._links[pair.first], self._links[pair.second]))
        return first, second

    def _collides(self, configuration: np.ndarray) -> bool:
        shapes = (self._manager,) if self._manager else (self._geometry, self._shapes)
        return self._pin.computeCollisions(
            self._arm.model, self._data, *shapes, configuration, True
        )

    def _hits(self, configuration: np.ndarray) -> list[tuple[str, str]]:
        """Every pair that is closer than the margin."""
        if self._geometry is None:
            return []
        self._pin.computeCollisions(
            self._arm.model, self._data, self._geometry, self._shapes, configuration, False
        )
        results = zip(self._geometry.collisionPairs, self._shapes.collisionResults, strict=True)
        return sorted({self._names(pair) for pair, result in results if result.isCollision()})

    def _check_reference(self, reference: np.ndarray) -> None:
        hits = self._hits(self._arm.configurations(reference)[0])
        if hits:
            named = ", ".join(" and ".join(pair) for pair in hits[:MOST_NAMED])
            more = f" and {len(hits) - MOST_NAMED} more" if len(hits) > MOST_NAMED else ""
            raise ProblemsError(
                [
                    f"these links are closer than {self._margin:g} m already in the pose"
                    f" {_numbers(reference[0])}: {named}{more}. Give another pose as"
                    " collision_reference, or an SRDF with disable_collisions for pairs that"
                    " always touch"
                ]
            )

    def _outside(self, place: np.ndarray) -> str:
        low, high = self._box
        axis = int(np.argmax(np.maximum(low - place, place - high)))
        below = place[axis] < low[axis]
        return (
            f"{self._arm.tool} would leave the workspace: {_AXES[axis]} = {place[axis]:.3f} m, "
            f"{'below' if below else 'above'} {(low if below else high)[axis]:g} m"
        )


def _read_srdf(arm: Arm, path: Path) -> set[frozenset[str]]:
    try:
        return of_srdf(arm.urdf, path)
    except ProblemsError as error:
        raise ProblemsError([f"{path}: {problem}" for problem in error.problems]) from error


def _numbers(values: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"


def _reach(arm: Arm, geometry: Any) -> np.ndarray:
    """[joints] metres that any point of a link, or the tool, moves at most per unit of a joint.

    A prismatic joint moves all points alike. Those that others follow count with them.
    """
    model = arm.model
    extent = np.zeros(model.njoints)  # of what hangs on each joint, from its origin
    frame = model.frames[arm.tool_frame]
    extent[frame.parentJoint] = np.linalg.norm(frame.placement.translation)
    for item in geometry.geometryObjects if geometry is not None else ():
        item.geometry.computeLocalAABB()
        centre = item.placement.act(np.asarray(item.geometry.aabb_center))
        size = np.linalg.norm(centre) + item.geometry.aabb_radius
        extent[item.parentJoint] = max(extent[item.parentJoint], size)
    slide = np.zeros(model.njoints)  # what a prismatic joint adds to its length
    prismatic = {n for n, joint in arm.urdf.joints.items() if joint.type == "prismatic"}
    for index in range(1, model.njoints):
        if model.names[index] in prismatic:
            place = model.joints[index].idx_q
            ends = model.lowerPositionLimit[place], model.upperPositionLimit[place]
            slide[index] = np.abs(ends).max()
    for index in range(model.njoints - 1, 0, -1):
        length = np.linalg.norm(model.jointPlacements[index].translation) + slide[index]
        parent = model.parents[index]
        extent[parent] = max(extent[parent], length + extent[index])
    reach = np.zeros(len(arm.joints))
    for name, joint in arm.urdf.joints.items():
        if not model.existJointName(name) or (joint.mimic or name) not in arm.joints:
            continue
        per_unit = 1.0 if name in prismatic else extent[model.getJointId(name)]
        factor = abs(joint.multiplier) if joint.mimic else 1.0
        reach[arm.joints.index(joint.mimic or name)] += factor * per_unit
    return reach
