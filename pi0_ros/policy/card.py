"""What a policy says of itself: all that decides whether it fits a robot. No weights, no path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # they import torch, which a client has no need of
    from pi0_ros.checkpoint.metadata import Declared
    from pi0_ros.checkpoint.normalization import Normalization

MOST = 1024
"""Joints, cameras and steps that a card may have; it may come from a network."""


class CardError(ValueError):
    """A card that is none; says which entry is wrong."""


@dataclass(frozen=True)
class PolicyCard:
    """The properties of a checkpoint that `compatibility` compares, and what the policy takes.

    Attributes:
        format, cameras, joints, horizon, state, action, action_mode, delta_mask, prompt_state: as
            of `Checkpoint`; modes that the checkpoint left open are decided.
        served: the cameras that the policy takes, all of them.
        declared: names, rate and units of the joints, where the checkpoint records them.
        image_size: side of the model's square, pixels.
        antialias: how images are shrunk to it; see `checkpoint.ImageRule`.
        rtc: what it was loaded for; see `model.rtc`.
        rtc_max_delay: as of `Policy`.
    """

    format: str
    cameras: tuple[str, ...]
    served: tuple[str, ...]
    joints: int
    horizon: int
    state: Normalization
    action: Normalization
    action_mode: str
    delta_mask: tuple[bool, ...] | None
    prompt_state: int
    declared: Declared
    image_size: int
    antialias: bool
    rtc: str = "off"
    rtc_max_delay: int = 0

    def to_document(self) -> dict[str, Any]:
        """Plain values, for `from_document`."""
        plain = {name: list(getattr(self, name)) for name in ("cameras", "served")}
        for name in _PLAIN:
            plain[name] = getattr(self, name)
        for name in ("state", "action"):
            norm = getattr(self, name)
            plain[name] = {"offset": norm.offset.tolist(), "scale": norm.scale.tolist()}
        mask, declared = self.delta_mask, self.declared
        plain["delta_mask"] = None if mask is None else [bool(value) for value in mask]
        plain["joint_names"] = list(declared.joints)
        plain["fps"] = declared.fps
        plain["unit_scale"], plain["unit_offset"] = map(
            list, (declared.unit_scale, declared.unit_offset)
        )
        return plain

    @staticmethod
    def from_document(document: Any, source: str) -> PolicyCard:
        """The card that a document holds.

        Args:
            source: whose it is, for messages about what it declares.

        Raises:
            CardError: an entry is missing or of a wrong kind.
        """
        from pi0_ros.checkpoint.metadata import Declared

        if not isinstance(document, Mapping):
            raise CardError(f"expected a map, got {type(document).__name__}")
        read = _Reader(document)
        joints = read.whole("joints")
        units = [read.floats(document, name) for name in ("unit_scale", "unit_offset")]
        fps = document.get("fps")
        names = read.words("joint_names")
        mask = document.get("delta_mask")
        if mask is not None and not (
            isinstance(mask, list) and len(mask) == joints and all(type(v) is bool for v in mask)
        ):
            raise CardError("delta_mask: expected true or false for each joint, or nothing")
        if read.word("action_mode") not in ("absolute", "delta"):
            raise CardError("action_mode: expected absolute or delta")
        for name, values in (("joint_names", names), *zip(_UNITS, units, strict=True)):
            if len(values) not in (0, joints):
                raise CardError(f"{name}: expected {joints} values or none, got {len(values)}")
        return PolicyCard(
            format=read.word("format"),
            cameras=read.words("cameras"),
            served=read.words("served"),
            joints=joints,
            horizon=read.whole("horizon"),
            state=read.normalization("state", joints),
            action=read.normalization("action", joints),
            action_mode=read.word("action_mode"),
            delta_mask=None if mask is None else tuple(mask),
            prompt_state=read.whole("prompt_state", 0),
            declared=Declared(
                joints=names,
                joints_source=source if names else "",
                fps=None if fps is None else read.number("fps"),
                fps_source="" if fps is None else f"{source}: fps",
                unit_scale=units[0],
                unit_offset=units[1],
            ),
            image_size=read.whole("image_size"),
            antialias=bool(document.get("antialias")),
            rtc=read.word("rtc"),
            rtc_max_delay=read.whole("rtc_max_delay", 0),
        )


_PLAIN = (
    "format", "joints", "horizon", "action_mode", "prompt_state", "image_size", "antialias", "rtc",
    "rtc_max_delay",
)  # fmt: skip
_UNITS = ("unit_scale", "unit_offset")


class _Reader:
    """Entries of a document that anybody may have written."""

    def __init__(self, document: Mapping[Any, Any]) -> None:
        self._document = document

    def whole(self, name: str, least: int = 1) -> int:
        value = self._document.get(name)
        if type(value) is not int or not least <= value <= MOST:
            raise CardError(f"{name}: expected a whole number from {least} to {MOST}")
        return value

    def number(self, name: str) -> float:
        value = self._document.get(name)
        if type(value) not in (int, float) or not np.isfinite(value) or value < 0:
            raise CardError(f"{name}: expected a number that is not negative")
        return float(value)

    def word(self, name: str) -> str:
        value = self._document.get(name)
        if not isinstance(value, str) or len(value) > 200:
            raise CardError(f"{name}: expected a word")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        value = self._document.get(name)
        good = isinstance(value, list) and len(value) <= MOST
        if not good or not all(isinstance(word, str) and len(word) <= 200 for word in value):
            raise CardError(f"{name}: expected a list of words")
        return tuple(value)

    def floats(self, document: Mapping[Any, Any], name: str) -> tuple[float, ...]:
        value = document.get(name)
        if not isinstance(value, list) or len(value) > MOST:
            raise CardError(f"{name}: expected a list of numbers")
        if not all(type(v) in (int, float) and np.isfinite(v) for v in value):
            raise CardError(f"{name}: expected finite numbers")
        return tuple(map(float, value))

    def normalization(self, name: str, size: int) -> Normalization:
        from pi0_ros.checkpoint.normalization import Normalization

        document = self._document.get(name)
        if not isinstance(document, Mapping):
            raise CardError(f"{name}: expected a map with offset and scale")
        offset, scale = (
            np.array(self.floats(document, part), np.float32) for part in ("offset", "scale")
        )
        if not len(offset) == len(scale) == size:
            raise CardError(f"{name}: expected {size} offsets and scales")
        return Normalization(offset, scale, scale)
