"""Conversion between a checkpoint's joint units and radians."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JointUnits:
    """radians = scale * checkpoint unit + offset, per joint.

    Many LeRobot checkpoints use degrees or percent of a range, and another unit for a gripper.

    Attributes:
        scale, offset: [joints] float32; no scale is 0.
    """

    scale: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        for name in ("scale", "offset"):
            value = np.asarray(getattr(self, name), dtype=np.float32)
            if value.ndim != 1 or not np.isfinite(value).all():
                raise ValueError(f"JointUnits.{name} must be finite [joints], got {value}")
            object.__setattr__(self, name, value)
        if self.scale.shape != self.offset.shape or not self.scale.all():
            raise ValueError(
                "JointUnits: scale and offset need one value per joint and no scale may be 0, got "
                f"scale {self.scale.tolist()} and offset {self.offset.tolist()}"
            )

    @staticmethod
    def radians(joints: int) -> "JointUnits":
        """The units of a checkpoint that uses radians already."""
        return JointUnits(np.ones(joints, np.float32), np.zeros(joints, np.float32))

    def to_radians(self, value: np.ndarray) -> np.ndarray:
        """[..., joints] in the checkpoint's unit -> radians."""
        return value * self.scale + self.offset

    def from_radians(self, value: np.ndarray) -> np.ndarray:
        """[..., joints] radians -> the checkpoint's unit."""
        return (value - self.offset) / self.scale

    def __len__(self) -> int:
        return len(self.scale)


def delta_mask(joints: Sequence[str], delta_joints: Sequence[str]) -> list[bool]:
    """Per joint, whether its actions are relative to the observed state.

    Raises:
        ValueError: a delta joint is not a joint.
    """
    unknown = [name for name in delta_joints if name not in joints]
    if unknown:
        raise ValueError(f"delta joints {unknown} are not among the joints {list(joints)}")
    return [name in delta_joints for name in joints]
