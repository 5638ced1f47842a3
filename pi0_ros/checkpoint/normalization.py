"""Normalisation of states and actions by a checkpoint's statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.checkpoint.errors import shown
from pi0_ros.checkpoint.tensors import Tensors


@dataclass(frozen=True)
class Normalization:
    """normalised = (value - offset) / scale, and value = normalised * inverse_scale + offset.

    All modes of LeRobot and openpi have this form. The two scales differ where the format guards
    the division by an epsilon but not the product.

    Attributes:
        offset, scale, inverse_scale: [n] float32, in the checkpoint's unit.
        low: [n] float32, where -1 is, in the modes that have a range.
    """

    offset: np.ndarray
    scale: np.ndarray
    inverse_scale: np.ndarray
    low: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.offset)

    def normalize(self, value: np.ndarray) -> np.ndarray:
        """[..., n] -> [..., n] float32."""
        return ((np.asarray(value, np.float32) - self.offset) / self.scale).astype(np.float32)

    def normalize_for_prompt(self, value: np.ndarray) -> np.ndarray:
        """As `normalize`, rounded as LeRobot does it: where a range is cut into parts and written
        down as numbers, the last bit decides at their edges.
        """
        if self.low is None:
            return self.normalize(value)
        return ((np.asarray(value, np.float32) - self.low) / self.scale - 1).astype(np.float32)

    def unnormalize(self, value: np.ndarray) -> np.ndarray:
        """[..., n] -> [..., n] float32."""
        return (np.asarray(value, np.float32) * self.inverse_scale + self.offset).astype(np.float32)

    def renormalize(self, value: np.ndarray) -> np.ndarray:
        """[..., n] -> [..., n] float32: what `unnormalize` made the value of. `normalize` differs
        from it by the guard of its division.
        """
        return ((np.asarray(value, np.float32) - self.offset) / self.inverse_scale).astype(
            np.float32
        )


_MOST_VALUES = 1 << 16
REQUIRED_STATISTICS = {
    "IDENTITY": (),
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
"""LeRobot's normalisation modes and the statistics each reads."""


def normalization(
    mode: str,
    statistics: Mapping[str, np.ndarray],
    size: int,
    *,
    eps: float = 1e-8,
    eps_in_inverse: bool = False,
    eps_in_range: bool = False,
) -> Normalization:
    """A `Normalization` from statistics by name.

    Args:
        mode: a key of `REQUIRED_STATISTICS`.
        statistics: name -> [size or more] values.
        size: dimensions to keep.
        eps: guard of the division.
        eps_in_inverse: un-normalising uses the guarded scale too (openpi does).
        eps_in_range: add `eps` to max - min always (LeRobot 0.3), instead of only where it is 0
            (LeRobot 0.4).

    Raises:
        ValueError: the mode is unknown; a statistic is missing, too short or not finite; or a
        spread is negative or larger than numbers go.
    """
    if mode not in REQUIRED_STATISTICS:
        raise ValueError(
            f"unknown normalisation mode {shown(mode)}; known: {', '.join(REQUIRED_STATISTICS)}"
        )
    values = []
    for name in REQUIRED_STATISTICS[mode]:
        if name not in statistics:
            raise ValueError(f"mode {mode} needs the statistic '{name}', which is not there")
        value = np.asarray(statistics[name], dtype=np.float32).reshape(-1)
        if len(value) < size:
            raise ValueError(f"'{name}' has {len(value)} values, {size} are needed")
        if not np.isfinite(value[:size]).all():
            raise ValueError(
                f"'{name}' is not finite: the checkpoint was saved without data set statistics"
            )
        values.append(value[:size])
    if mode == "MEAN_STD" and (values[1] < 0).any():
        raise ValueError(f"'std' is negative: {shown(values[1].tolist())}")
    if mode != "MEAN_STD" and values and (values[1] < values[0]).any():
        low, high = REQUIRED_STATISTICS[mode]
        raise ValueError(f"'{low}' is above '{high}': {shown((values[1] - values[0]).tolist())}")

    if mode == "IDENTITY":
        one = np.ones(size, np.float32)
        return Normalization(np.zeros(size, np.float32), one, one)
    if mode == "MEAN_STD":
        mean, std = values
        guarded = std + np.float32(eps)
        return Normalization(mean, guarded, guarded if eps_in_inverse else std)
    low, high = values
    with np.errstate(over="ignore"):
        width = high - low
    if not np.isfinite(width).all():
        raise ValueError("the range is larger than float32 goes")
    always = width + np.float32(eps)
    guarded = always if eps_in_range else np.where(width == 0, np.float32(eps), width)
    inverse = width if eps_in_range and not eps_in_inverse else guarded
    # value = (normalised + 1) / 2 * width + low, and the forward form is centred alike.
    return Normalization(low + guarded / 2, guarded / 2, inverse / 2, low)


def normalization_or_problem(
    what: str,
    problems: list[str],
    mode: str,
    statistics: Mapping[str, np.ndarray],
    size: int,
    **rule: Any,
) -> Normalization:
    """`normalization`; what is wrong is added to the problems, and the identity returned."""
    try:
        return normalization(mode, statistics, size, **rule)
    except ValueError as error:
        problems.append(f"{what}: {error}")
        return normalization("IDENTITY", {}, size)


def read_statistics(tensors: Tensors, prefix: str, problems: list[str]) -> dict[str, np.ndarray]:
    """Name -> [n] float32 of the tensors under a prefix, whichever dtype they are stored in."""
    known = {name for names in REQUIRED_STATISTICS.values() for name in names}
    found = {}
    with tensors.reader() as read:
        for key in tensors:
            name = key.removeprefix(prefix)
            if name == key or name not in known:
                continue
            if np.prod(tensors[key].shape, dtype=float) > _MOST_VALUES:
                problems.append(f"the statistic {key} has shape {list(tensors[key].shape)}")
                continue
            found[name] = read(key).float().numpy().reshape(-1)
    return found
