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
"""Joints and steps that a card may have; it may come from a network."""

_LONGEST = 200  # characters of a name


class CardError(ValueError):
    """A card that is none; says which entries are wrong."""


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
        plain |= {name: list(getattr(declared, name)) for name in _UNITS}
        return plain

    @staticmethod
    def from_document(document: Any, source: str) -> PolicyCard:
        """The card that a document holds.

        Args:
            source: whose it is, for messages about what it declares.

        Raises:
            CardError: entries are missing or of a wrong kind.
        """
        from pi0_ros.checkpoint.document import Document
        from pi0_ros.checkpoint.metadata import Declared
        from pi0_ros.checkpoint.normalization import Normalization

        if not isinstance(document, Mapping):
            raise CardError(f"expected a map, got {type(document).__name__}")
        problems: list[str] = []
        read = Document(document, source, problems)
        if missing := [name for name in _REQUIRED if name not in read]:
            raise CardError(f"{', '.join(missing)}: missing")
        joints = read.integer("joints", 0, 1, MOST)

        def floats(document: Document, name: str, sizes: tuple[int, ...]) -> list[float]:
            values = document.numbers(name) or []
            if len(values) not in sizes or not np.isfinite(values).all():
                document.problem(f"{name} must have {joints} finite numbers")
            return values

        def normalization(name: str) -> Normalization:
            parts = (floats(read.child(name), part, (joints,)) for part in ("offset", "scale"))
            offset, scale = (np.array(part, np.float32) for part in parts)
            return Normalization(offset, scale, scale)

        words = {name: read.text(name) for name in ("format", "action_mode", "rtc")}
        lists = {name: read.texts(name) or () for name in _LISTS}
        if any(len(text) > _LONGEST for text in (*words.values(), *sum(lists.values(), ()))):
            read.problem(f"a name of more than {_LONGEST} characters")
        if words["action_mode"] not in ("absolute", "delta"):
            read.problem("action_mode must be absolute or delta")
        names = lists.pop("joint_names")
        if len(names) not in (0, joints):
            read.problem(f"joint_names must be {joints} or none, got {len(names)}")
        fps = read.number("fps", 0.0, 0.0, 1e6) if "fps" in read else None
        card = PolicyCard(
            **words,
            **lists,
            joints=joints,
            horizon=read.integer("horizon", 0, 1, MOST),
            state=normalization("state"),
            action=normalization("action"),
            delta_mask=read.flags("delta_mask", joints),
            prompt_state=read.integer("prompt_state", 0, 0, MOST),
            declared=Declared(
                joints=names,
                joints_source=source if names else "",
                fps=fps,
                fps_source="" if fps is None else f"{source}: fps",
                **{name: tuple(floats(read, name, (0, joints))) for name in _UNITS},
            ),
            image_size=read.integer("image_size", 0, 1, MOST),
            antialias=read.flag("antialias"),
            rtc_max_delay=read.integer("rtc_max_delay", 0, 0, MOST),
        )
        if problems:
            raise CardError("; ".join(problems))
        return card


_PLAIN = (
    "format", "joints", "horizon", "action_mode", "prompt_state", "image_size", "antialias", "rtc",
    "rtc_max_delay",
)  # fmt: skip
_LISTS = ("cameras", "served", "joint_names")
_UNITS = ("unit_scale", "unit_offset")
_REQUIRED = (*_PLAIN, *_LISTS, *_UNITS, "state", "action")
