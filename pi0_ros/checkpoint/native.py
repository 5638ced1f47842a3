"""This package's own format: one directory from which a robot starts, whatever it was made of.

config.json says all that `Checkpoint` holds, number by number, so that nothing has to be concluded
from other files again; model.safetensors has the weights, adapters merged, in the dtype that is
computed in; the tokenizer lies beside them. `pi0 convert` writes it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint, ImageRule
from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.document import Document
from pi0_ros.checkpoint.errors import shown
from pi0_ros.checkpoint.lerobot import RTC_MAX_DELAY
from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import Normalization, normalization
from pi0_ros.checkpoint.sizes import SIZES_KEY, declared_sizes
from pi0_ros.checkpoint.tensors import Tensors
from pi0_ros.console import write_json
from pi0_ros.model.config import VARIANTS, Pi0Config

NATIVE = "pi0_ros"
_VERSION = 1
_PARTS = ("offset", "scale", "inverse_scale", "low")


def write_native(path: Path, checkpoint: Checkpoint, declared: Declared) -> None:
    """Write config.json. The keys of names and pace are those that LeRobot uses."""
    units = {"scale": list(declared.unit_scale), "offset": list(declared.unit_offset)}
    document: dict[str, Any] = {
        "type": NATIVE,
        "version": _VERSION,
        "made_from": checkpoint.format,
        "variant": checkpoint.config.variant,
        SIZES_KEY: {k: v for k, v in asdict(checkpoint.config).items() if k != "variant"},
        "cameras": list(checkpoint.cameras),
        "joints": checkpoint.joints,
        "state": _plain(checkpoint.state),
        "action": _plain(checkpoint.action),
        "image": asdict(checkpoint.image),
        "accumulates_time": checkpoint.accumulates_time,
        "cleans_prompt": checkpoint.cleans_prompt,
        "action_mode": checkpoint.action_mode,
        "delta_mask": None if checkpoint.delta_mask is None else list(checkpoint.delta_mask),
        "prompt_state": checkpoint.prompt_state,
        RTC_MAX_DELAY: checkpoint.rtc_max_delay,
        "action_feature_names": list(declared.joints) or None,
        "fps": declared.fps,
        "units": units if declared.unit_scale else None,
    }
    write_json(path / CONFIG, document)


def read_native(
    path: Path, document: Document, tensors: Tensors, sizes: Pi0Config | None
) -> Checkpoint:
    """A directory that `write_native` wrote; what is wrong is added to the document's problems."""
    if document.integer("version", _VERSION, 1, 1000) != _VERSION:
        document.problem(
            f"version {shown(document.raw('version'))} is not {_VERSION}: it was written by a newer"
            " pi0_ros; convert the original checkpoint with this one"
        )
    variant = document.text("variant", "pi0")
    if variant not in VARIANTS:
        document.problem(f"variant must be one of {', '.join(VARIANTS)}, got {shown(variant)}")
        variant = "pi0"
    config = sizes or declared_sizes(document, variant)
    if config is None:
        document.problem(f"{SIZES_KEY} is missing: the sizes of the model are unknown")
        config = Pi0Config(variant)
    joints = document.integer("joints", 0, 1, min(config.max_state_dim, config.max_action_dim))
    cameras = document.texts("cameras") or ()
    if not cameras or len(set(cameras)) != len(cameras):
        document.problem(f"cameras must be different names, got {shown(cameras)}")
    image = document.child("image")
    mode = document.text("action_mode") or None
    mask = document.flags("delta_mask", joints)
    if mode not in (None, "absolute", "delta") or (mask is not None and mode != "delta"):
        document.problem(f"action_mode is {shown(mode)}, delta_mask {shown(mask)}")
    prompt_state = document.raw("prompt_state")
    if prompt_state is not None:
        prompt_state = document.integer("prompt_state", 0, 0, config.max_state_dim)
    return Checkpoint(
        path,
        NATIVE,
        config,
        tensors,
        cameras,
        joints,
        _normalization(document.child("state"), joints),
        _normalization(document.child("action"), joints),
        ImageRule(antialias=image.flag("antialias"), centred=image.flag("centred")),
        accumulates_time=document.flag("accumulates_time"),
        cleans_prompt=document.flag("cleans_prompt"),
        action_mode=mode,
        delta_mask=mask,
        prompt_state=prompt_state,
        rtc_max_delay=document.integer(RTC_MAX_DELAY, 0, 0, config.horizon - 1),
    )


def _plain(norm: Normalization) -> dict[str, list[float] | None]:
    # A float32 written with all digits of its double is read back as it was.
    values = {name: getattr(norm, name) for name in _PARTS}
    return {name: None if value is None else value.tolist() for name, value in values.items()}


def _normalization(document: Document, size: int) -> Normalization:
    values = {}
    for name in _PARTS:
        numbers = document.numbers(name)
        if numbers is None and name == "low":
            continue
        values[name] = np.array(numbers or (), np.float32)
        good = values[name].size == size and np.isfinite(values[name]).all()
        if not good or (name.endswith("scale") and (values[name] < 0).any()):
            document.problem(f"{name} must have {size} finite numbers, scales none below 0")
            return normalization("IDENTITY", {}, size)
    return Normalization(**values)
