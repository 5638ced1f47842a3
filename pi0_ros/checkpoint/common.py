"""What the readers of all checkpoint formats share."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pi0_ros.checkpoint.checkpoint import CONFIG, IMAGE_PREFIX, SIZES_KEY
from pi0_ros.checkpoint.normalization import Normalization, normalization
from pi0_ros.checkpoint.weights import CheckpointError
from pi0_ros.model.config import Pi0Config

GEMMA_VARIANTS = {
    "gemma_2b": {"width": 2048, "mlp": 16384, "depth": 18},
    "gemma_300m": {"width": 1024, "mlp": 4096, "depth": 18},
}


def modes_of(settings: dict[str, Any], key: str, where: str, problems: list[str]) -> dict[str, str]:
    """Feature type -> normalisation mode. Required: there is no default."""
    modes = settings.get(key)
    if modes is None:
        problems.append(f"{where}: {key} is missing: the normalisation of values is unknown")
        return {}
    return modes


# LeRobot's `empty_cameras`: slots that were never filled.
_EMPTY_CAMERA = IMAGE_PREFIX + "empty_camera_"


class Features:
    """Cameras, joints and actions of a LeRobot config.json."""

    def __init__(self, document: dict[str, Any], problems: list[str]) -> None:
        inputs = document.get("input_features", {})
        self.cameras = tuple(
            name.removeprefix(IMAGE_PREFIX)
            for name, feature in inputs.items()
            if feature.get("type") == "VISUAL" and not name.startswith(_EMPTY_CAMERA)
        )
        outputs = document.get("output_features", {})
        self.state = self._size(inputs, "observation.state", problems)
        self.action = self._size(outputs, "action", problems)
        if not self.cameras:
            problems.append(f"{CONFIG}: input_features name no camera (type VISUAL)")
        if self.state and self.action and self.state != self.action:
            problems.append(
                f"{CONFIG}: {self.state} state values but {self.action} actions: a joint "
                "trajectory needs one of each per joint"
            )

    @staticmethod
    def _size(features: dict[str, Any], name: str, problems: list[str]) -> int:
        if name not in features:
            problems.append(f"{CONFIG}: feature '{name}' is missing, got {sorted(features)}")
            return 0
        return int(features[name]["shape"][0])

    def check_images(self, modes: dict[str, str], problems: list[str]) -> None:
        if modes.get("VISUAL", "IDENTITY") != "IDENTITY":
            problems.append(
                f"images are normalised by {modes['VISUAL']}; pi0 takes them as they are"
            )


def sizes_of(
    document: dict[str, Any],
    prefix: str,
    expert: str,
    *,
    image: Sequence[int],
    num_steps: int,
    horizon: int,
    problems: list[str],
    action_dim: int = 32,
) -> Pi0Config:
    """Sizes of a published variant, or those that this package wrote into config.json itself."""
    if SIZES_KEY in document:
        known = {field.name for field in fields(Pi0Config)}
        unknown = set(document[SIZES_KEY]) - known
        if unknown:
            problems.append(f"{CONFIG}: {SIZES_KEY} has unknown sizes {sorted(unknown)}")
        sizes = {k: v for k, v in document[SIZES_KEY].items() if k in known}
        return Pi0Config(**sizes)
    config = Pi0Config(
        max_state_dim=document.get("max_state_dim", action_dim),
        max_action_dim=document.get("max_action_dim", action_dim),
        horizon=horizon,
        num_steps=num_steps,
        prompt_length=document.get("tokenizer_max_length", 48),
        min_period=document.get("min_period", 4e-3),
        max_period=document.get("max_period", 4.0),
    )
    if tuple(image) != (config.image_size, config.image_size):
        problems.append(f"{CONFIG}: images of {list(image)}; SigLIP So400m/14 takes 224 x 224")
    for part, variant in (("prefix", prefix), ("expert", expert)):
        size = GEMMA_VARIANTS.get(variant)
        if size is None:
            problems.append(
                f"{CONFIG}: unknown Gemma variant '{variant}'; known: {', '.join(GEMMA_VARIANTS)}"
            )
        else:
            widths = {f"{part}_width": size["width"], f"{part}_mlp": size["mlp"]}
            config = replace(config, **widths)
    return config


def normalization_of(
    what: str, mode: str, statistics: dict[str, Any], size: int, problems: list[str], **rule: Any
) -> Normalization:
    """`normalization`, with what is wrong added to the problems."""
    try:
        return normalization(mode, statistics, size, **rule)
    except ValueError as error:
        problems.append(f"statistics of the {what}: {error}")
        return normalization("IDENTITY", {}, size)


def read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document
