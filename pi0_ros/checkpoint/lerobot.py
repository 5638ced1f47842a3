"""Reading the two checkpoint formats of LeRobot; see `checkpoint`."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from pi0_ros.checkpoint.checkpoint import CONFIG, WEIGHTS, Checkpoint, ImageRule
from pi0_ros.checkpoint.common import Features, modes_of, normalization_of, read_json, sizes_of
from pi0_ros.model.config import Pi0Config

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
OLD_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")


def read_lerobot_old(
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
    features = Features(document, problems)
    modes = modes_of(document, "normalization_mapping", CONFIG, problems)
    norms = {
        kind: normalization_of(
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
    features.check_images(modes, problems)
    config = sizes or sizes_of(
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


_KNOWN_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "tokenizer_processor",
    "device_processor",
    "normalizer_processor",
    "unnormalizer_processor",
}


def read_lerobot_new(
    path: Path, document: dict[str, Any], sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    features = Features(document, problems)
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
        modes = modes_of(settings, "norm_map", f"{file}: {step_name}", problems) if step else {}
        keys = settings.get("normalize_observation_keys")
        if kind == "state" and keys is not None and feature not in keys:
            modes = {**modes, kind.upper(): "IDENTITY"}
        statistics = _step_statistics(path, file, step, feature, problems)
        norms[kind] = normalization_of(
            f"{kind} ({file}: {step.get('state_file', 'no state_file')}: {feature})",
            modes.get(kind.upper(), "IDENTITY"),
            statistics,
            size,
            problems,
            eps=settings.get("eps", 1e-8),
        )
        features.check_images(modes, problems)
    config = sizes or sizes_of(
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
    for step in read_json(path).get("steps", []):
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
