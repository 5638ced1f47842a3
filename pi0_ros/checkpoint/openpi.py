"""Reading checkpoints of openpi's PyTorch port; see `checkpoint`."""

from pathlib import Path
from typing import Any

from pi0_ros.checkpoint.checkpoint import Checkpoint, ImageRule
from pi0_ros.checkpoint.common import normalization_of, read_json, sizes_of
from pi0_ros.model.config import Pi0Config

OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def read_openpi(
    path: Path, document: dict[str, Any], sizes: Pi0Config | None, problems: list[str]
) -> Checkpoint:
    config = sizes or sizes_of(
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
        statistics = read_json(found[0]).get("norm_stats", {})
    else:
        names = [str(p.relative_to(path)) for p in found]
        problems.append(f"expected one assets/<id>/norm_stats.json, found {names or 'none'}")
    norms = {}
    for kind, key in (("state", "state"), ("action", "actions")):
        values = statistics.get(key, {})
        if found and not values:
            problems.append(f"{found[0].relative_to(path)} has no statistics of '{key}'")
        norms[kind] = normalization_of(
            f"{kind} ({found[0].relative_to(path) if found else 'norm_stats.json'}: {key})",
            "MEAN_STD" if values else "IDENTITY",
            values,
            _unpadded(values),
            problems,
            eps=1e-6,
            eps_in_inverse=True,
        )
    if norms["state"].size != norms["action"].size:
        problems.append(
            f"norm_stats.json: {norms['state'].size} state values but {norms['action'].size} "
            "actions: a joint trajectory needs one of each per joint"
        )
    return Checkpoint(
        path,
        "openpi",
        config,
        OPENPI_CAMERAS,
        norms["action"].size,
        norms["state"],
        norms["action"],
        ImageRule(antialias=True, centred=True),
        accumulates_time=True,
        cleans_prompt=True,
        action_mode=None,
    )


def _unpadded(statistics: dict[str, Any]) -> int:
    """How many dimensions are real: openpi may pad statistics with zeros to the model's 32."""
    used = [
        i + 1
        for name in ("mean", "std")
        for i, value in enumerate(statistics.get(name, ()))
        if value != 0
    ]
    return max(used, default=0)
