"""Reading a checkpoint directory in each of the three formats; see `checkpoint`."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from pi0_ros.model.checkpoint import CONFIG, IMAGE_PREFIX, SIZES_KEY, WEIGHTS, Checkpoint, ImageRule
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.normalization import Normalization, normalization
from pi0_ros.model.weights import CheckpointError, check_keys, read_keys

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
GEMMA_VARIANTS = {
    "gemma_2b": {"width": 2048, "mlp": 16384, "depth": 18},
    "gemma_300m": {"width": 1024, "mlp": 4096, "depth": 18},
}
OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def read_checkpoint(path: str | Path, sizes: Pi0Config | None = None) -> Checkpoint:
    """Read a checkpoint directory and check everything about it.

    Args:
        path: directory with config.json and model.safetensors.
        sizes: sizes of a model that is none of the published variants and does not bring its own.

    Raises:
        CheckpointError: listing everything that is wrong: files, configuration, statistics, and
            missing, unexpected or misshapen tensors.
    """
    path = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            there = sorted(p.name for p in path.iterdir()) if path.is_dir() else "no such directory"
            raise CheckpointError(
                f"{path}: a pi0 checkpoint has {CONFIG} and {WEIGHTS}, and {name} is missing "
                f"(found: {there}). Give the directory that holds them, not one above it."
            )
    document = _read_json(path / CONFIG)
    keys = read_keys(path / WEIGHTS)
    problems: list[str] = []
    if "action_horizon" in document:
        checkpoint = _read_openpi(path, document, sizes, problems)
        others: Sequence[str] = ()
    elif document.get("type") != "pi0":
        raise CheckpointError(
            f"{path / CONFIG}: expected a LeRobot policy of type 'pi0' or an openpi PyTorch "
            f"configuration, got type {document.get('type')!r} with keys {sorted(document)}"
        )
    elif (path / PREPROCESSOR).is_file():
        checkpoint = _read_lerobot_new(path, document, sizes, problems)
        others = ()
    else:
        checkpoint = _read_lerobot_old(path, document, sizes, problems)
        others = [key for key in keys if key.startswith(_OLD_STATISTICS)]
    problems += check_keys(keys, checkpoint.config, others)
    if problems:
        raise CheckpointError(
            f"{path} ({checkpoint.format}) cannot be used:\n  - " + "\n  - ".join(problems)
        )
    return checkpoint


# ---- LeRobot up to 0.3 ------------------------------------------------------------------------

_OLD_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")


def _read_lerobot_old(
    path: Path, document: dict[str, Any], sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    for flag in ("adapt_to_pi_aloha", "use_delta_joint_actions_aloha"):
        if document.get(flag):
            problems.append(f"{flag} is set: ALOHA's own joint conversions are not supported")
    statistics: dict[str, dict[str, np.ndarray]] = {}
    with safe_open(path / WEIGHTS, "np") as file:
        names: list[str] = file.keys()
        for name in names:
            for owner in ("normalize_inputs.buffer_", "unnormalize_outputs.buffer_"):
                if name.startswith(owner):
                    feature, _, statistic = name.removeprefix(owner).rpartition(".")
                    statistics.setdefault(feature, {})[statistic] = file.get_tensor(name)
    features = _Features(document, problems)
    modes = document.get("normalization_mapping", {})
    norms = {
        kind: _normalization(
            f"{kind} (buffers of {WEIGHTS})",
            modes.get(kind.upper(), "IDENTITY"),
            statistics.get(buffer, {}),
            size,
            problems,
            eps_in_range=True,
        )
        for kind, buffer, size in (
            ("state", "observation_state", features.state),
            ("action", "action", features.action),
        )
    }
    features.check_pictures(modes, problems)
    config = sizes or _sizes(
        document,
        "gemma_2b",
        "gemma_300m",
        image=document.get("resize_imgs_with_padding") or (),
        num_steps=document.get("num_steps", 10),
        # The old inference makes as many steps as it executes.
        horizon=document.get("n_action_steps", 50),
        problems=problems,
    )
    return Checkpoint(
        path,
        "lerobot-0.3",
        config,
        features.cameras,
        features.action,
        norms["state"],
        norms["action"],
        ImageRule(antialias=False, centred=False),
        accumulates_time=True,
        cleans_prompt=False,
        action_mode="absolute",
    )


# ---- LeRobot from 0.4 -------------------------------------------------------------------------

_KNOWN_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "tokenizer_processor",
    "device_processor",
    "normalizer_processor",
    "unnormalizer_processor",
}


def _read_lerobot_new(
    path: Path, document: dict[str, Any], sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    features = _Features(document, problems)
    norms = {}
    for kind, file, step_name, feature, size in (
        ("state", PREPROCESSOR, "normalizer_processor", "observation.state", features.state),
        ("action", POSTPROCESSOR, "unnormalizer_processor", "action", features.action),
    ):
        step = _processor_steps(path / file, problems).get(step_name)
        if step is None:
            problems.append(f"{file} has no step '{step_name}': statistics are missing")
            step = {}
        settings = step.get("config", {})
        modes = settings.get("norm_map", {})
        if feature not in settings.get("normalize_observation_keys", [feature]):
            modes = {**modes, kind.upper(): "IDENTITY"}
        statistics = _step_statistics(path, file, step, feature, problems)
        norms[kind] = _normalization(
            f"{kind} ({file}: {step.get('state_file', 'no state_file')}: {feature})",
            modes.get(kind.upper(), "IDENTITY"),
            statistics,
            size,
            problems,
            eps=settings.get("eps", 1e-8),
        )
        features.check_pictures(modes, problems)
    config = sizes or _sizes(
        document,
        document.get("paligemma_variant", "gemma_2b"),
        document.get("action_expert_variant", "gemma_300m"),
        image=document.get("image_resolution", (224, 224)),
        num_steps=document.get("num_inference_steps", 10),
        horizon=document.get("chunk_size", 50),
        problems=problems,
    )
    return Checkpoint(
        path,
        "lerobot-0.4",
        config,
        features.cameras,
        features.action,
        norms["state"],
        norms["action"],
        ImageRule(antialias=False, centred=True),
        accumulates_time=False,
        cleans_prompt=False,
        action_mode="absolute",
    )


def _processor_steps(path: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Registry name -> step of a processor's JSON; unknown steps are problems."""
    if not path.is_file():
        problems.append(f"{path.name} is missing")
        return {}
    steps = {}
    for step in _read_json(path).get("steps", []):
        name = step.get("registry_name", step.get("class", "?"))
        if name not in _KNOWN_STEPS:
            problems.append(
                f"{path.name} has the step '{name}', which this package does not know; "
                f"known: {', '.join(sorted(_KNOWN_STEPS))}"
            )
        steps[name] = step
    return steps


def _step_statistics(
    path: Path, file: str, step: dict[str, Any], feature: str, problems: list[str]
) -> dict[str, np.ndarray]:
    state_file = step.get("state_file")
    if state_file is None:
        return {}
    if not (path / state_file).is_file():
        problems.append(f"{file} names {state_file}, which is missing")
        return {}
    with safe_open(path / state_file, "np") as tensors:
        names: list[str] = tensors.keys()
        return {
            name.removeprefix(feature + "."): tensors.get_tensor(name)
            for name in names
            if name.rpartition(".")[0] == feature
        }


# ---- openpi -----------------------------------------------------------------------------------


def _read_openpi(
    path: Path, document: dict[str, Any], sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    config = sizes or _sizes(
        document,
        document.get("paligemma_variant", "gemma_2b"),
        document.get("action_expert_variant", "gemma_300m"),
        image=(224, 224),
        num_steps=10,
        horizon=document["action_horizon"],
        problems=problems,
        action_dim=document.get("action_dim", 32),
    )
    found = sorted(path.glob("assets/*/norm_stats.json"))
    statistics: dict[str, Any] = {}
    if len(found) == 1:
        statistics = _read_json(found[0]).get("norm_stats", {})
    else:
        names = [str(p.relative_to(path)) for p in found]
        problems.append(f"expected one assets/<id>/norm_stats.json, found {names or 'none'}")
    norms = {
        kind: _normalization(
            f"{kind} ({found[0].relative_to(path) if found else 'norm_stats.json'}: {key})",
            "MEAN_STD",
            statistics.get(key, {}),
            len(statistics.get(key, {}).get("mean", ())),
            problems,
            eps=1e-6,
            eps_in_inverse=True,
        )
        for kind, key in (("state", "state"), ("action", "actions"))
    }
    return Checkpoint(
        path,
        "openpi",
        config,
        OPENPI_CAMERAS,
        None,
        norms["state"],
        norms["action"],
        ImageRule(antialias=True, centred=True),
        accumulates_time=True,
        cleans_prompt=True,
        action_mode=None,
    )


# ---- shared -----------------------------------------------------------------------------------


# LeRobot's `empty_cameras`: slots that were never filled.
_EMPTY_CAMERA = IMAGE_PREFIX + "empty_camera_"


class _Features:
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

    def check_pictures(self, modes: dict[str, str], problems: list[str]) -> None:
        if modes.get("VISUAL", "IDENTITY") != "IDENTITY":
            problems.append(
                f"pictures are normalised by {modes['VISUAL']}; pi0 takes them as they are"
            )


def _sizes(
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
        problems.append(f"{CONFIG}: pictures of {list(image)}; SigLIP So400m/14 takes 224 x 224")
    for part, variant in (("prefix", prefix), ("expert", expert)):
        size = GEMMA_VARIANTS.get(variant)
        if size is None:
            problems.append(
                f"{CONFIG}: unknown Gemma variant '{variant}'; known: {', '.join(GEMMA_VARIANTS)}"
            )
        elif size["depth"] == config.depth:
            widths = {f"{part}_width": size["width"], f"{part}_mlp": size["mlp"]}
            config = replace(config, **widths)
    return config


def _normalization(
    what: str, mode: str, statistics: dict[str, Any], size: int, problems: list[str], **rule: Any
) -> Normalization:
    """`normalization`, with what is wrong added to the problems."""
    try:
        return normalization(mode, statistics, size, **rule)
    except ValueError as error:
        problems.append(f"statistics of the {what}: {error}")
        return normalization("IDENTITY", {}, size)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document
