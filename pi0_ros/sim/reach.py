"""How the simulated arm reaches for a cube: inverse kinematics and a smooth joint path."""

from dataclasses import dataclass

import numpy as np

from pi0_ros.sim.scene import CUBE_HALF_SIZE, Scene
from pi0_ros.sim.stage import HOME, JOINTS, TIP_SITE, Stage, load_mujoco

TOUCH_SECONDS = 10 / 3  # one whole touch, from HOME to HOME
CLOSED = 0.0  # radians of the gripper joint
_HOVER = 0.05  # metres above the cube's top before and after the touch
_PRESS = 0.002  # metres below the cube's top that the tip aims at, so that it does make contact
_REACH_TOLERANCE = 0.004  # metres
_SOLVED = 1e-6  # radians per iteration
_TURN_WEIGHT = 0.05  # metres of tip error that weigh as much as one radian of tilt


@dataclass(frozen=True)
class JointPath:
    """Joint targets over time: minimum-jerk pieces that rest at every waypoint.

    Attributes:
        times: [k] seconds, increasing, from 0.
        points: [k, 6] radians in the order of JOINTS.
    """

    times: np.ndarray
    points: np.ndarray

    def __call__(self, seconds: float) -> np.ndarray:
        """[6] radians at a time; before the first and after the last waypoint it rests there."""
        t = float(np.clip(seconds, self.times[0], self.times[-1]))
        i = int(np.clip(np.searchsorted(self.times, t, side="right"), 1, len(self.times) - 1))
        s = (t - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        blend = s**3 * (10 - 15 * s + 6 * s**2)
        return self.points[i - 1] + blend * (self.points[i] - self.points[i - 1])


def reach_pose(stage: Stage, tip: np.ndarray, gripper: float) -> np.ndarray:
    """Joint positions that put the tip of the fixed finger at a point, the hand pointing down.

    Damped least squares over shoulder, elbow and wrist flexion; the wrist keeps the roll of HOME.

    Args:
        stage: only its model and the places of its bodies are used; nothing moves.
        tip: [3] metres in the base frame.
        gripper: radians of the gripper joint.

    Returns:
        [6] float64 radians in the order of JOINTS, within the joint ranges.

    Raises:
        ValueError: the point is out of reach.
    """
    mujoco = load_mujoco()
    model, data = stage.model, mujoco.MjData(stage.model)
    data.qpos[:] = stage.data.qpos
    low, high = model.jnt_range[: len(JOINTS)].T
    site, hand = model.site(TIP_SITE).id, model.body("gripper").id
    move, turn = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    q = np.array(HOME)
    q[:4] = -np.arctan2(tip[1], tip[0]), -0.2, 0.3, 1.3  # over the table, hand down
    q[5] = gripper
    for _ in range(80):
        data.qpos[: len(JOINTS)] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, move, turn, site)
        offset = tip - data.site_xpos[site]
        # The turn that is missing: the cross product of where the hand points and down.
        approach = -data.xmat[hand].reshape(3, 3)[:, 2]
        error = np.array([*offset, -_TURN_WEIGHT * approach[1], _TURN_WEIGHT * approach[0], 0.0])
        jacobian = np.vstack([move[:, :4], _TURN_WEIGHT * turn[:, :4]])
        step = _damped_step(jacobian, error)
        stuck = ((q[:4] <= low[:4]) & (step < 0)) | ((q[:4] >= high[:4]) & (step > 0))
        if stuck.any():  # the joints that are still free have to do it alone
            step = _damped_step(jacobian * ~stuck, error)
        if np.abs(step).max() < _SOLVED:
            break
        q[:4] = np.clip(q[:4] + np.clip(step, -0.3, 0.3), low[:4], high[:4])
    if np.linalg.norm(offset) > _REACH_TOLERANCE:
        raise ValueError(
            f"the arm cannot reach {np.round(tip, 3).tolist()} m: "
            f"its tip stays {np.linalg.norm(offset):.3f} m away"
        )
    return q


def _damped_step(jacobian: np.ndarray, error: np.ndarray) -> np.ndarray:
    """One damped least squares step of the joints, [joints] radians."""
    normal = jacobian @ jacobian.T + 1e-5 * np.eye(len(error))
    return jacobian.T @ np.linalg.solve(normal, error)


def touch_path(scene: Scene, colour: str) -> JointPath:
    """From HOME over a cube, down to touch its top with closed fingers, and back to HOME.

    Takes TOUCH_SECONDS. The cube is taken to be where it is when this is called.
    """
    up = np.array([0.0, 0.0, 1.0])
    top = scene.cube_position(colour) + CUBE_HALF_SIZE * up
    over = reach_pose(scene, top + _HOVER * up, CLOSED)
    down = reach_pose(scene, top - _PRESS * up, CLOSED)
    home = np.array(HOME)
    times = np.array([0.0, 1.2, 1.65, 1.8, 2.15, TOUCH_SECONDS])
    return JointPath(times, np.stack([home, over, down, down, over, home]))
