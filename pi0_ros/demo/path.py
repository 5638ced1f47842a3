"""The path of the fingertip that a chunk predicts, as the front camera sees it."""

from __future__ import annotations

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
    """The arm's kinematics and the front camera; needs mujoco, no OpenGL."""

    def __init__(self) -> None:
        self._stage = Stage(build_model(lambda spec: None))
        load_mujoco().mj_forward(self._stage.model, self._stage.data)

    def of(self, chunk: ChunkRecord, moment: int) -> np.ndarray:
        """[k, 2] pixels, right and down, NaN behind the camera: the rest of a chunk from a moment.

        Args:
            moment: nanoseconds.
        """
        places = self._stage.project(self.tip_positions(ahead(chunk, moment)), "front")
        return (places * (1, -1) + 1) / 2 * (IMAGE_WIDTH, IMAGE_HEIGHT)

    def tip_positions(self, positions: np.ndarray) -> np.ndarray:
        """[n, joints] radians in the order of JOINTS -> [n, 3] metres: of the fingertip."""
        data = self._stage.data
        tips = np.empty((len(positions), 3))
        for tip, row in zip(tips, positions, strict=True):
            data.qpos[: len(JOINTS)] = row
            load_mujoco().mj_kinematics(self._stage.model, data)
            tip[:] = data.site(TIP_SITE).xpos
        return tips
