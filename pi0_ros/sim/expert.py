"""A scripted expert for the touch task, which knows where the objects are.

It is a vector field over the joint positions, not a plan: from any of them it gives the motion for
any instruction of the scene. So every observation can be labelled with every instruction.
"""

from __future__ import annotations

import numpy as np

from pi0_ros.sim.reach import CLOSED, reach_pose
from pi0_ros.sim.stage import HOME, JOINTS
from pi0_ros.sim.task import Thing
from pi0_ros.sim.world import World

CONTROL_SECONDS = 0.04  # between two actions: 25 Hz
TRAVEL = np.array([0.0, -1.25, 0.85, 0.95, HOME[4], HOME[5]])
"""Radians: the hand is above everything on the table, at any pan."""

_PRESS = 0.003  # metres below the surface that the tip aims at, so that it does make contact
_GAIN = 0.14  # share of the remaining distance per step
_MAX_STEP = 0.05  # radians per step: 1.25 rad/s
_ALIGNED = 0.16  # radians of pan error within which the hand comes down
_LIFTED = 0.45  # radians from TRAVEL within which the pan may be fast
_SLOW = 0.06  # share of the pan's speed while the hand is low
_MOVED = 0.002  # metres that an object moves before its pose is solved anew
LEAD = 1
"""Steps by which commands are ahead: what the servos need to follow."""


class Expert:
    """Reads the state of the world, which no policy sees.

    Args:
        world: whose objects it touches.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._solved: dict[Thing, tuple[np.ndarray, np.ndarray]] = {}

    def goal(self, instruction: str) -> np.ndarray:
        """[6] radians: the joint positions that touch the named object where it is now.

        An object hidden from the front camera that the wrist camera does not see either is first
        looked for from above the middle of the table.

        Raises:
            ValueError: the instruction is none of the scene's.
        """
        thing = self.world.thing(instruction)
        if thing.hidden and self.world.in_view(thing, "wrist") is None:
            return TRAVEL
        return self.touch_pose(thing)

    def touch_pose(self, thing: Thing) -> np.ndarray:
        """[6] radians: fingers closed, their tip on the object's upper side."""
        top = self.world.top(thing)
        known = self._solved.get(thing)
        if known is None or np.abs(known[0] - top).max() > _MOVED:
            # An object that was pushed out of reach keeps the pose that last reached it.
            try:
                pose = reach_pose(self.world.stage, top - [0.0, 0.0, _PRESS], CLOSED)
            except ValueError:
                pose = TRAVEL if known is None else known[1]
            known = self._solved[thing] = (top, pose)
        return known[1]

    def forget(self) -> None:
        """Drop what was solved; call it after the world was arranged anew."""
        self._solved.clear()

    def chunk(self, instruction: str, horizon: int = 50) -> np.ndarray:
        """[horizon, 6] radians: what to command from now on, a step every CONTROL_SECONDS."""
        return self.chunk_from(self.world.positions, self.goal(instruction), horizon)

    def chunk_from(self, joints: np.ndarray, goal: np.ndarray, horizon: int) -> np.ndarray:
        """As `chunk`, from joint positions to goals.

        Args:
            joints: [6] radians.
            goal: [..., 6] radians.

        Returns:
            [..., horizon, 6] radians.
        """
        low, high = self.world.stage.model.jnt_range[: len(JOINTS)].T
        q = np.broadcast_to(np.asarray(joints, dtype=float), goal.shape)
        steps = []
        for _ in range(horizon + LEAD):
            q = np.clip(q + velocity(q, goal), low, high)
            steps.append(q)
        return np.stack(steps[LEAD:], axis=-2)


def velocity(q: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """[..., 6] radians per step: lift, pan, come down, blended by how far the arm is."""
    aligned = np.exp(-(((goal[..., :1] - q[..., :1]) / _ALIGNED) ** 2))
    waypoint = TRAVEL + aligned * (goal - TRAVEL)
    waypoint[..., 0] = goal[..., 0]
    low_by = np.abs(q[..., 1:4] - TRAVEL[1:4]).max(-1, keepdims=True)
    lifted = np.exp(-((low_by / _LIFTED) ** 2))
    step = np.clip(_GAIN * (waypoint - q), -_MAX_STEP, _MAX_STEP)
    step[..., :1] *= _SLOW + (1 - _SLOW) * np.maximum(lifted, aligned)
    return step
