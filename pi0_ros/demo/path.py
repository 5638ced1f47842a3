"""The path of the fingertip that a chunk predicts, as the front camera sees it."""

from __future__ import annotations

import math

import numpy as np

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.sim.stage import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    JOINTS,
    TIP_SITE,
    Stage,
    build_model,
    load_mujoco,
)


def ahead(chunk: ChunkRecord, moment: int) -> np.ndarray:
    """The rest of a chunk from a moment on, which as a rule lies between two of its steps.

    Args:
        chunk: of the joints JOINTS, in any order.
        moment: nanoseconds.

    Returns:
        [k, joints] float64 radians in the order of JOINTS, dt apart; [0, joints] after its end.

    Raises:
        ValueError: the chunk is of other joints.
    """
    if set(chunk.joint_names) != set(JOINTS):
        raise ValueError(f"a chunk of {', '.join(chunk.joint_names)}; expected {', '.join(JOINTS)}")
    columns = [chunk.joint_names.index(name) for name in JOINTS]
    positions = np.asarray(chunk.positions, dtype=np.float64)[:, columns]
    due = chunk.dt * np.arange(1, len(positions) + 1)
    now = (moment - chunk.stamp) / 1e9
    times = np.arange(max(now, due[0]), due[-1] + 1e-9, chunk.dt)
    return np.column_stack([np.interp(times, due, column) for column in positions.T])


class TipPath:
    """The arm's kinematics and the front camera's place; needs mujoco, no OpenGL.

    Raises:
        UserError: mujoco is not installed.
    """

    def __init__(self) -> None:
        self._stage = Stage(build_model(lambda spec: None))
        model, data = self._stage.model, self._stage.data
        load_mujoco().mj_forward(model, data)
        camera = data.camera("front")
        self._eye, self._axes = camera.xpos.copy(), camera.xmat.reshape(3, 3).copy()
        self._half_height = math.tan(math.radians(model.camera("front").fovy[0]) / 2)

    def tip_positions(self, positions: np.ndarray) -> np.ndarray:
        """[n, joints] radians in the order of JOINTS -> [n, 3] metres: of the fingertip."""
        model, data = self._stage.model, self._stage.data
        tips = np.empty((len(positions), 3))
        for tip, row in zip(tips, positions, strict=True):
            data.qpos[: len(JOINTS)] = row
            load_mujoco().mj_kinematics(model, data)
            tip[:] = data.site(TIP_SITE).xpos
        return tips

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """[n, 3] metres in the base frame -> [n, 2] x and y in the front camera's image.

        Pixels of IMAGE_WIDTH x IMAGE_HEIGHT, right and down, (0, 0) the upper left corner; outside
        of it for what is not in view, NaN for what is behind the camera.
        """
        x, y, z = ((points - self._eye) @ self._axes).T
        edge = np.where(z < 0, -z, np.nan) * self._half_height
        centre = np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / 2
        return centre + np.column_stack([x, -y]) / edge[:, None] * (IMAGE_HEIGHT / 2)

    def of(self, chunk: ChunkRecord, moment: int) -> np.ndarray:
        """[k, 2] pixels, as of `pixels`: the rest of a chunk from a moment in nanoseconds on."""
        return self.pixels(self.tip_positions(ahead(chunk, moment)))
