"""Writing a checkpoint directory in LeRobot 0.4's format."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.features import IMAGE_PREFIX
from pi0_ros.checkpoint.lerobot import RTC_MAX_DELAY
from pi0_ros.checkpoint.sizes import SIZES_KEY
from pi0_ros.checkpoint.steps import (
    NEW_LINE,
    NORMALIZER,
    POSTPROCESSOR,
    PREPROCESSOR,
    RELATIVE,
    STATE_PROMPT,
    TOKENIZER,
    UNNORMALIZER,
)
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD
from pi0_ros.console import write_json
from pi0_ros.model.config import PI05, Pi0Config

Statistics = Mapping[str, np.ndarray]
"""Statistic (`mean`, `std`, ...) -> [joints]."""


def save_checkpoint(
    path: Path,
    config: Pi0Config,
    tensors: Mapping[str, Tensor],
    *,
    cameras: Sequence[str],
    state: Statistics,
    action: Statistics,
    state_mode: str = "MEAN_STD",
    rtc_max_delay: int = 0,
) -> None:
    """Write config.json, model.safetensors, both processors and their statistics.

    Args:
        path: directory, made when it is not there.
        tensors: canonical name -> tensor, see `weights.checkpoint_shapes`.
        state, action: statistics in the checkpoint's unit: what `state_mode` reads; `mean` and
            `std`.
        state_mode: a key of `normalization.REQUIRED_STATISTICS`.
        rtc_max_delay: see `Checkpoint`.
    """
    path.mkdir(parents=True, exist_ok=True)
    joints = len(action["mean"])
    inputs: dict[str, Any] = {
        IMAGE_PREFIX + name: {"type": "VISUAL", "shape": [3, 480, 640]} for name in cameras
    }
    inputs["observation.state"] = {"type": "STATE", "shape": [joints]}
    outputs = {"action": {"type": "ACTION", "shape": [joints]}}
    norm_map = {"VISUAL": "IDENTITY", "STATE": state_mode, "ACTION": "MEAN_STD"}
    document = {
        "type": config.variant,
        "input_features": inputs,
        "output_features": outputs,
        "normalization_mapping": norm_map,
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": config.max_state_dim,
        "max_action_dim": config.max_action_dim,
        "num_inference_steps": config.num_steps,
        "tokenizer_max_length": config.prompt_length,
        "image_resolution": [config.image_size, config.image_size],
    }
    if rtc_max_delay:
        document[RTC_MAX_DELAY] = rtc_max_delay
    if config not in (Pi0Config(), PI05):
        document[SIZES_KEY] = asdict(config)
    write_json(path / CONFIG, document)

    normalizer = {"eps": 1e-8, "features": {**inputs, **outputs}, "norm_map": norm_map}
    tokenizer = {
        "max_length": config.prompt_length,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    device = {"device": "cpu", "float_dtype": None}
    before = {"rename_observations_processor": {"rename_map": {}}, "to_batch_processor": {}}
    if config.pi05:
        before[RELATIVE] = {"enabled": False, "exclude_joints": [], "action_names": None}
        before |= {NORMALIZER: normalizer, STATE_PROMPT: {}, TOKENIZER: tokenizer}
        before["device_processor"] = device
    else:
        before |= {NEW_LINE: {}, TOKENIZER: tokenizer, "device_processor": device}
        before[NORMALIZER] = normalizer
    after = {UNNORMALIZER: {**normalizer, "features": outputs}, "device_processor": device}
    _write_processor(path / PREPROCESSOR, before, state, action)
    _write_processor(path / POSTPROCESSOR, after, state, action)
    # LeRobot saves the tied embedding under the head's name.
    names = {EMBED_TOKENS: LM_HEAD}
    named = {f"model.{names.get(key, key)}": value for key, value in tensors.items()}
    save_file(named, path / WEIGHTS, metadata={"format": "pt"})


def _write_processor(
    file: Path, steps: Mapping[str, Any], state: Statistics, action: Statistics
) -> None:
    """A processor's JSON, and beside it the statistics of its normalising step."""
    document: dict[str, Any] = {"name": file.stem, "steps": []}
    for index, (name, config) in enumerate(steps.items()):
        step = {"registry_name": name, "config": config}
        if name.endswith("normalizer_processor"):
            step["state_file"] = f"{file.stem}_step_{index}_{name}.safetensors"
            arrays = {
                f"{feature}.{statistic}": np.ascontiguousarray(value, np.float32)
                for feature, values in (("observation.state", state), ("action", action))
                for statistic, value in values.items()
            }
            save_arrays(arrays, file.parent / step["state_file"])
        document["steps"].append(step)
    write_json(file, document)
