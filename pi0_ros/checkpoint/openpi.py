"""Reading checkpoints of openpi's PyTorch port; see `checkpoint`.

openpi writes its directories in two ways. Its converter from JAX leaves a config.json beside
model.safetensors; its trainer (`train_pytorch.py`) leaves none. Neither says whether actions are
relative to the state. Statistics lie in assets/<id>/norm_stats.json, where the id of a data set may
have slashes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint, ImageRule
from pi0_ros.checkpoint.document import Document, read_document
from pi0_ros.checkpoint.features import check_sizes
from pi0_ros.checkpoint.normalization import REQUIRED_STATISTICS, normalization_or_problem
from pi0_ros.checkpoint.sizes import (
    MOST_HORIZON,
    declared_sizes,
    published_sizes,
    tensor_sizes,
    variant_of,
)
from pi0_ros.checkpoint.tensors import Tensors
from pi0_ros.model.config import Pi0Config

OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
_STATISTICS = "norm_stats.json"


def read_openpi(
    path: Path,
    document: Document | None,
    tensors: Tensors,
    sizes: Pi0Config | None,
    problems: list[str],
    *,
    asset: str = "",
    horizon: int = 0,
) -> Checkpoint:
    """A checkpoint of openpi; what is wrong with it is added to the problems.

    Args:
        document: config.json; None where there is none.
        asset: id of the statistics to take, where there are several.
        horizon: steps in a chunk, where there is no config.json.
    """
    config = sizes or _sizes(document, tensors, horizon, problems)
    file = _statistics_file(path, asset, problems)
    statistics = Document({}, _STATISTICS, problems)
    if file:
        statistics = read_document(path, file, problems).child("norm_stats")
    mode = "QUANTILES" if config.pi05 else "MEAN_STD"
    norms = {}
    for kind, key, padded in (
        ("state", "state", config.max_state_dim),
        ("action", "actions", config.max_action_dim),
    ):
        values = _values(statistics, key)
        if file and not values:
            statistics.problem(f"there are no statistics of '{key}'")
        norms[kind] = normalization_or_problem(
            f"statistics of the {kind} ({statistics.where}: {key})",
            problems,
            mode if values else "IDENTITY",
            values,
            _size(values, padded),
            eps=1e-6,
            eps_in_inverse=True,
            eps_in_range=True,
        )
    check_sizes(norms["state"].size, norms["action"].size, _STATISTICS, problems)
    return Checkpoint(
        path,
        "openpi",
        config,
        tensors,
        OPENPI_CAMERAS,
        norms["action"].size,
        norms["state"],
        norms["action"],
        ImageRule(antialias=True, centred=True),
        accumulates_time=True,
        cleans_prompt=True,
        action_mode=None,
        prompt_state=None if config.pi05 else 0,
    )


def _sizes(
    document: Document | None, tensors: Tensors, horizon: int, problems: list[str]
) -> Pi0Config:
    if document is None:
        if not horizon:
            problems.append(
                "there is no config.json, and tensors do not tell how many steps a chunk has: set"
                " the parameter `horizon` (of the node, --horizon of pi0 convert) to the"
                " action_horizon of the training's configuration"
                " (50 where it has none)"
            )
        return tensor_sizes(tensors, min(horizon, MOST_HORIZON) or 50, problems)
    declared = document.integer("action_horizon", 50, 1, MOST_HORIZON)
    if horizon and horizon != declared:
        document.problem(f"action_horizon is {declared}, the parameter `horizon` is {horizon}")
    variant = variant_of(tensors)
    return declared_sizes(document, variant) or published_sizes(
        document,
        variant,
        prefix=document.text("paligemma_variant", "gemma_2b"),
        expert=document.text("action_expert_variant", "gemma_300m"),
        num_steps=10,
        horizon=declared,
        action_dim=document.integer("action_dim", 32, 1, 1024),
    )


def _statistics_file(path: Path, asset: str, problems: list[str]) -> str | None:
    """The one norm_stats.json below assets/, or that of the asset asked for."""
    below = path / "assets"
    found = {
        str(file.parent.relative_to(below)): str(file.relative_to(path))
        for file in sorted(below.rglob(_STATISTICS))
        if file.parent != below
    }
    names = ", ".join(found)
    if asset:
        if asset not in found:
            problems.append(
                f"asset '{asset}' has no statistics; those are there: {names or 'none'}"
            )
        return found.get(asset)
    if len(found) > 1:
        problems.append(
            f"there are statistics of several data sets: set the parameter `asset` to one of"
            f" {names}"
        )
    if not found:
        problems.append(
            f"expected one assets/<id>/{_STATISTICS}, found none: copy the folder assets of the"
            " checkpoint that this one was converted from, or that the training wrote"
        )
    return next(iter(found.values()), None)


def _values(statistics: Document, key: str) -> dict[str, np.ndarray]:
    """The statistics of a key by name: [n] each."""
    values = statistics.child(key)
    found = {}
    for name in dict.fromkeys(name for names in REQUIRED_STATISTICS.values() for name in names):
        numbers = values.numbers(name)
        if numbers is not None:
            found[name] = np.array(numbers, np.float32)
    return found


def _size(statistics: dict[str, np.ndarray], padded: int) -> int:
    """How many numbers are real: openpi may pad statistics with zeros to the model's 32."""
    used = [statistics[name] for name in ("mean", "std") if name in statistics]
    length = max((len(value) for value in used), default=0)
    if length < padded:
        return length
    return max((int(np.flatnonzero(value)[-1]) + 1 for value in used if value.any()), default=0)
