"""Inverse kinematics of the simulated arm: the joint positions that touch a point."""

from __future__ import annotations

import numpy as np

from pi0_ros.sim.stage import HOME, JOINTS, TIP_SITE, Stage, load_mujoco

CLOSED = 0.0
"""Radians of the gripper joint."""

_TOLERANCE = 0.004  # metres
_SOLVED = 1e-6  # radians per iteration
_TILT_WEIGHT = 0.05  # metres of tip error that weigh as much as one radian of tilt


def reach_pose(stage: Stage, tip: np.ndarray, gripper: float) -> np.ndarray:
    """Joint positions that put the tip of the fixed finger at a point, the hand pointing down.

    Damped least squares over shoulder, elbow and wrist flexion; the wrist keeps the roll of HOME.

    Args:
        stage: only its model and the poses of its bodies are used; nothing moves.
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
    linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    q = np.array(HOME)
    q[:4] = -np.arctan2(tip[1], tip[0]), -0.2, 0.3, 1.3  # over the table, hand down
    q[5] = gripper
    for _ in range(80):
        data.qpos[: len(JOINTS)] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, linear, angular, site)
        offset = tip - data.site_xpos[site]
        # The rotation that is missing: the cross product of where the hand points and down.
        approach = -data.xmat[hand].reshape(3, 3)[:, 2]
        error = np.array([*offset, -_TILT_WEIGHT * approach[1], _TILT_WEIGHT * approach[0], 0.0])
        jacobian = np.vstack([linear[:, :4], _TILT_WEIGHT * angular[:, :4]])
        step = _damped_step(jacobian, error)
        stuck = ((q[:4] <= low[:4]) & (step < 0)) | ((q[:4] >= high[:4]) & (step > 0))
        if stuck.any():  # the joints that are still free have to do it alone
            step = _damped_step(jacobian * ~stuck, error)
        if np.abs(step).max() < _SOLVED:
            break
        q[:4] = np.clip(q[:4] + np.clip(step, -0.3, 0.3), low[:4], high[:4])
    if np.linalg.norm(offset) > _TOLERANCE:
        raise ValueError(
            f"the arm cannot reach {np.round(tip, 3).tolist()} m: "
            f"its tip stays {np.linalg.norm(offset):.3f} m away"
        )
    return q


def _damped_step(jacobian: np.ndarray, error: np.ndarray) -> np.ndarray:
    """One damped least squares step of the joints, [joints] radians."""
    normal = jacobian @ jacobian.T + 1e-5 * np.eye(len(error))
    return jacobian.T @ np.linalg.solve(normal, error)
