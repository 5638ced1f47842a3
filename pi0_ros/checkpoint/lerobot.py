"""Reading the checkpoints of LeRobot; `checkpoint` tells its two formats apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint, ImageRule
from pi0_ros.checkpoint.document import Document, file_inside, read_document
from pi0_ros.checkpoint.features import ACTION, STATE, Features, check_images, check_sizes
from pi0_ros.checkpoint.normalization import (
    REQUIRED_STATISTICS,
    Normalization,
    normalization_or_problem,
    read_statistics,
)
from pi0_ros.checkpoint.sizes import MOST_HORIZON, declared_sizes, published_sizes
from pi0_ros.checkpoint.steps import (
    NORMALIZER,
    POSTPROCESSOR,
    PREPROCESSOR,
    RELATIVE,
    UNNORMALIZER,
    Steps,
)
from pi0_ros.checkpoint.tensors import WEIGHTS, Tensors, read_infos
from pi0_ros.model.config import Pi0Config

_LOG = logging.getLogger(__name__)

TRAINING = "train_config.json"
RTC_MAX_DELAY = "rtc_training_max_delay"
"""Key of config.json: the most actions that training gave as a clean prefix."""

OLD_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")

_NOT_SUPPORTED = {
    "adapt_to_pi_aloha": "ALOHA's own joint conversions are",
    "use_delta_joint_actions_aloha": "ALOHA's own joint conversions are",
    "use_visual_memory": "a policy with memory of earlier observations (MEM) is",
    "use_proprioceptive_memory": "a policy with memory of earlier observations (MEM) is",
}


@dataclass
class _Source:
    """Where the normalisation of the state or of actions stands."""

    where: str
    mode: str = "IDENTITY"
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    rule: dict[str, float | bool] = field(default_factory=dict)


def read_lerobot(
    path: Path, document: Document, tensors: Tensors, sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    """A checkpoint of type pi0 or pi05; what is wrong with it is added to the problems."""
    variant = document.text("type", "pi0")
    is_new = (path / PREPROCESSOR).is_file() or variant == "pi05"
    for flag, what in _NOT_SUPPORTED.items():
        if document.flag(flag):
            problems.append(f"{flag} is set: {what} not supported")
    if document.integer("n_obs_steps", 1, 1, 1000) != 1:
        document.problem("n_obs_steps is not 1: pi0 gets one observation")
    config = sizes or declared_sizes(document, variant) or _sizes(document, variant, is_new)
    steps = Steps(path, problems, config.pi05) if is_new else None
    sources = (
        _from_steps(path, steps, problems) if steps else _from_weights(document, tensors, problems)
    )
    features = Features(document)
    norms: dict[str, Normalization] = {}
    for feature, padded in ((STATE, config.max_state_dim), (ACTION, config.max_action_dim)):
        source = sources[feature]
        used = REQUIRED_STATISTICS.get(source.mode, ())
        lengths = [source.statistics[name].size for name in used if name in source.statistics]
        size = features.size(feature, lengths, padded)
        norms[feature] = normalization_or_problem(
            f"statistics of the {feature} ({source.where})",
            problems,
            source.mode,
            source.statistics,
            size,
            **source.rule,
        )
    joints = norms[ACTION].size
    check_sizes(norms[STATE].size, joints, document.where, problems)
    relative, prompt_state = None, 0
    if steps:
        steps.check_prompt(config.prompt_length)
        relative = steps.relative_actions(document, joints)
        if config.pi05:
            pads = not steps.get(RELATIVE) and _pads_state(path, problems)
            prompt_state = config.max_state_dim if pads else joints
        if "resize_imgs_with_padding" in document:
            document.problem(
                "resize_imgs_with_padding is a setting of LeRobot up to 0.3, but the processors"
                " are of a later one, which resizes images otherwise: the policy was migrated and"
                " would see other images than in its training. Give the directory from before the"
                " migration"
            )
    return Checkpoint(
        path,
        "lerobot-0.4" if is_new else "lerobot-0.3",
        config,
        tensors,
        features.cameras,
        joints,
        norms[STATE],
        norms[ACTION],
        ImageRule(antialias=False, centred=is_new),
        accumulates_time=not is_new,
        cleans_prompt=config.pi05,
        action_mode="absolute" if relative is None else "delta",
        delta_mask=relative,
        prompt_state=prompt_state,
        rtc_max_delay=document.integer(RTC_MAX_DELAY, 0, 0, config.horizon - 1),
    )


def _pads_state(path: Path, problems: list[str]) -> bool:
    """Whether prompts of a pi0.5 without a step for relative actions have the state filled up with
    zeros: LeRobot 0.4 did that, 0.5.0 does not, and both save the same processors. The training
    configuration that LeRobot saves beside them has one more setting since 0.5.0."""
    if (path / TRAINING).is_file():
        return "cudnn_deterministic" not in read_document(path, TRAINING, problems)
    _LOG.warning(
        "%s has no %s, which tells pi0.5 of LeRobot 0.5.0 from that of 0.4: read as of 0.4, whose"
        " prompts have the state filled up with zeros. If 0.5.0 trained it, put the file there",
        path,
        TRAINING,
    )
    return True


def _sizes(document: Document, variant: str, is_new: bool) -> Pi0Config:
    """Sizes of a published variant, under the names of old or of new configurations."""
    if is_new:
        images = document.integers("image_resolution") or (224, 224)
        prefix = document.text("paligemma_variant", "gemma_2b")
        expert = document.text("action_expert_variant", "gemma_300m")
        steps, horizon = "num_inference_steps", "chunk_size"
    else:
        images = document.integers("resize_imgs_with_padding")
        prefix, expert = "gemma_2b", "gemma_300m"
        # The old inference makes as many steps as it executes.
        steps, horizon = "num_steps", "n_action_steps"
    if images != (224, 224):
        document.problem(f"images of {list(images)}; SigLIP So400m/14 takes 224 x 224")
    return published_sizes(
        document,
        variant,
        prefix=prefix,
        expert=expert,
        num_steps=document.integer(steps, 10, 1, MOST_HORIZON),
        horizon=document.integer(horizon, 50, 1, MOST_HORIZON),
    )


def _modes(document: Document, key: str) -> dict[str, str]:
    """Feature type -> normalisation mode. Required: there is no default."""
    if key not in document:
        document.problem(f"{key} is missing: the normalisation of values is unknown")
    modes = document.child(key)
    return {kind: modes.text(kind, "IDENTITY") for kind in modes}


def _from_weights(document: Document, tensors: Tensors, problems: list[str]) -> dict[str, _Source]:
    modes = _modes(document, "normalization_mapping")
    check_images(modes, problems)
    sources = {}
    for feature, kind, buffer in (
        (STATE, "STATE", "normalize_inputs.buffer_observation_state."),
        (ACTION, "ACTION", "unnormalize_outputs.buffer_action."),
    ):
        statistics = read_statistics(tensors, buffer, problems)
        where = f"buffers of {WEIGHTS}"
        mode = modes.get(kind, "IDENTITY")
        sources[feature] = _Source(where, mode, statistics, {"eps_in_range": True})
    return sources


def _from_steps(path: Path, steps: Steps, problems: list[str]) -> dict[str, _Source]:
    sources = {}
    for feature, kind, file, name in (
        (STATE, "STATE", PREPROCESSOR, NORMALIZER),
        (ACTION, "ACTION", POSTPROCESSOR, UNNORMALIZER),
    ):
        step = steps.required(name, "statistics are missing")
        if step is None:
            sources[feature] = _Source(file)
            continue
        settings = step.child("config")
        modes = _modes(settings, "norm_map")
        check_images(modes, problems)
        mode = modes.get(kind, "IDENTITY")
        keys = settings.texts("normalize_observation_keys")
        if feature == STATE and keys is not None and feature not in keys:
            mode = "IDENTITY"
        statistics = {}
        state_file = file_inside(path, step, "state_file")
        if state_file is not None:
            tensors = Tensors(read_infos([state_file], problems))
            statistics = read_statistics(tensors, f"{feature}.", problems)
        where = f"{file}: {step.text('state_file', 'no state_file')}: {feature}"
        eps = settings.number("eps", 1e-8, 0.0, 1e-3)
        sources[feature] = _Source(where, mode, statistics, {"eps": eps})
    return sources
