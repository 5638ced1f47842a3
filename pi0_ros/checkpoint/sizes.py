"""Sizes of a checkpoint's model: from its config.json within bounds, or from its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace

from pi0_ros.checkpoint.document import Document
from pi0_ros.checkpoint.errors import shown
from pi0_ros.checkpoint.tensors import TensorInfo
from pi0_ros.checkpoint.weights import EMBED_TOKENS, EXPERT, LM_HEAD, PREFIX, VISION
from pi0_ros.model.config import PI05, Pi0Config

SIZES_KEY = "pi0_ros_sizes"
"""Key of config.json under which this package writes sizes that no published variant has."""

GEMMA_VARIANTS = {
    "gemma_2b": {"width": 2048, "mlp": 16384},
    "gemma_300m": {"width": 1024, "mlp": 4096},
}
MOST_HORIZON = 1000
_MOST = {
    "image_size": 1024,
    "patch_size": 256,
    "vision_depth": 128,
    "depth": 128,
    "heads": 256,
    "kv_heads": 256,
    "vision_heads": 256,
    "head_dim": 1024,
    "vocab_size": 1 << 20,
    "max_state_dim": 1024,
    "max_action_dim": 1024,
    "horizon": MOST_HORIZON,
    "prompt_length": 1024,
    "num_steps": 1000,
}
_MOST_WIDTH = 1 << 17
_PERIODS = ("min_period", "max_period")


def declared_sizes(document: Document, variant: str) -> Pi0Config | None:
    """The sizes that this package wrote into config.json itself; None where it did not."""
    if SIZES_KEY not in document:
        return None
    sizes = document.child(SIZES_KEY)
    defaults = {item.name: item.default for item in fields(Pi0Config)}
    unknown = sorted(set(sizes) - set(defaults))
    if unknown:
        document.problem(f"{SIZES_KEY} has unknown sizes {shown(unknown)}")
    values = {
        name: sizes.number(name, default, 1e-9, 1e9)
        if name in _PERIODS
        else sizes.integer(name, default, 1, _MOST.get(name, _MOST_WIDTH))
        for name, default in defaults.items()
        if name != "variant"
    }
    return _config(variant, values, document)


def published_sizes(
    document: Document,
    variant: str,
    *,
    prefix: str,
    expert: str,
    num_steps: int,
    horizon: int,
    action_dim: int = 32,
) -> Pi0Config:
    """Sizes of a published variant.

    Args:
        variant: of `Pi0Config`.
        prefix, expert: variants of Gemma, see `GEMMA_VARIANTS`.
    """
    length = (PI05 if variant == "pi05" else Pi0Config()).prompt_length
    values: dict[str, float] = {"horizon": horizon, "num_steps": num_steps}
    for name, key, default in (
        ("max_state_dim", "max_state_dim", action_dim),
        ("max_action_dim", "max_action_dim", action_dim),
        ("prompt_length", "tokenizer_max_length", length),
    ):
        values[name] = document.integer(key, default, 1, _MOST[name])
    for name, default in (("min_period", 4e-3), ("max_period", 4.0)):
        values[name] = document.number(name, default, 1e-9, 1e9)
    for part, gemma in (("prefix", prefix), ("expert", expert)):
        sizes = GEMMA_VARIANTS.get(gemma)
        if sizes is None:
            known = ", ".join(GEMMA_VARIANTS)
            document.problem(f"unknown Gemma variant {shown(gemma)}; known: {known}")
        else:
            values |= {f"{part}_{name}": size for name, size in sizes.items()}
    return _config(variant, values, document)


def _config(variant: str, values: Mapping[str, float], document: Document) -> Pi0Config:
    try:
        return Pi0Config(variant, **values)
    except ValueError as error:
        document.problem(str(error))
        return Pi0Config(variant)


def variant_of(infos: Mapping[str, TensorInfo]) -> str:
    """What the tensors are of: openpi's configurations do not say it."""
    return "pi05" if "time_mlp_in.weight" in infos else "pi0"


def tensor_sizes(infos: Mapping[str, TensorInfo], horizon: int, problems: list[str]) -> Pi0Config:
    """Sizes from the shapes of tensors, where no config.json tells them.

    What shapes do not tell is that of every published model: 16 heads in the vision tower, one head
    for keys and values in Gemma, 10 denoise steps.
    """

    def size(key: str, axis: int) -> int:
        """0 where the tensor is not there; `check_keys` names it then."""
        shape = infos[key].shape if key in infos else ()
        return shape[axis] if axis < len(shape) else 0

    def depth(prefix: str) -> int:
        layers = re.compile(re.escape(prefix) + r"layers\.(\d+)\.")
        return 1 + max((int(m[1]) for m in map(layers.match, infos) if m), default=-1)

    published = PI05 if variant_of(infos) == "pi05" else Pi0Config()
    embedding = EMBED_TOKENS if EMBED_TOKENS in infos else LM_HEAD
    patch = VISION + "embeddings.patch_embedding.weight"
    layer = {name: f"{name}layers.0." for name in (PREFIX, EXPERT)}
    head_dim = size(layer[PREFIX] + "self_attn.k_proj.weight", 0)
    heads = size(layer[PREFIX] + "self_attn.q_proj.weight", 0) // max(head_dim, 1)
    side = round(size(VISION + "embeddings.position_embedding.weight", 0) ** 0.5)
    found = {
        "image_size": side * size(patch, 2),
        "patch_size": size(patch, 2),
        "vision_width": size(patch, 0),
        "vision_mlp": size(VISION + "encoder.layers.0.mlp.fc1.weight", 0),
        "vision_depth": depth(VISION + "encoder."),
        "vocab_size": size(embedding, 0),
        "prefix_width": size(embedding, 1),
        "prefix_mlp": size(layer[PREFIX] + "mlp.up_proj.weight", 0),
        "expert_width": size("action_in_proj.weight", 0),
        "expert_mlp": size(layer[EXPERT] + "mlp.up_proj.weight", 0),
        "depth": depth(EXPERT),
        "heads": heads,
        "head_dim": head_dim,
        "max_state_dim": size("state_proj.weight", 1),
        "max_action_dim": size("action_in_proj.weight", 1),
    }
    # Whatever does not fit is left at its default, and `check_keys` says what is there instead.
    sane = {k: v for k, v in found.items() if 1 <= v <= _MOST.get(k, _MOST_WIDTH)}
    try:
        return replace(published, **sane, horizon=horizon)
    except ValueError as error:
        problems.append(f"the shapes of the tensors do not fit each other: {error}")
        return replace(published, horizon=horizon)
