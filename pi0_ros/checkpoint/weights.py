"""Which tensors of a checkpoint make up which parameter of `Pi0`, and loading them.

Names are those of LeRobot 0.4 and of openpi's PyTorch port; `tensors.canonical` brings others to
them. Fusing (query | key | value, gate | up), adding 1 to norm weights and folding the action
projection happen here, once.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pi0_ros.checkpoint.errors import plain
from pi0_ros.checkpoint.tensors import DTYPES, TensorInfo, Tensors
from pi0_ros.model.config import VARIANTS, Pi0Config
from pi0_ros.model.linear import replace
from pi0_ros.model.ops import Ops
from pi0_ros.model.pi0 import Pi0

VISION = "paligemma_with_expert.paligemma.model.vision_tower.vision_model."
_PROJECTOR = "paligemma_with_expert.paligemma.model.multi_modal_projector.linear."
PREFIX = "paligemma_with_expert.paligemma.model.language_model."
EXPERT = "paligemma_with_expert.gemma_expert.model."
EMBED_TOKENS = PREFIX + "embed_tokens.weight"
LM_HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
_EXPERT_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"


@dataclass(frozen=True)
class Source:
    """A parameter: the tensors that it is built from, and how."""

    keys: tuple[str, ...]
    build: Callable[..., Tensor]
    keep_float32: bool = False


def checkpoint_shapes(c: Pi0Config) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every tensor of a published checkpoint.

    The token embedding stands under its own name; a published file has it as `LM_HEAD`, to which it
    is tied, or as both.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def layer_norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (c.vision_width,)

    def norm(name: str, width: int, adaptive: bool = False) -> None:
        if adaptive:
            linear(f"{name}.dense", width, 3 * width)
        else:
            shapes[f"{name}.weight"] = (width,)

    def gemma_layer(name: str, width: int, mlp: int, adaptive: bool = False) -> None:
        kv = c.kv_heads * c.head_dim
        norm(f"{name}.input_layernorm", width, adaptive)
        linear(f"{name}.self_attn.k_proj", width, kv, bias=False)
        linear(f"{name}.self_attn.v_proj", width, kv, bias=False)
        linear(f"{name}.self_attn.q_proj", width, c.heads * c.head_dim, bias=False)
        linear(f"{name}.self_attn.o_proj", c.heads * c.head_dim, width, bias=False)
        norm(f"{name}.post_attention_layernorm", width, adaptive)
        linear(f"{name}.mlp.gate_proj", width, mlp, bias=False)
        linear(f"{name}.mlp.up_proj", width, mlp, bias=False)
        linear(f"{name}.mlp.down_proj", mlp, width, bias=False)

    patch = (c.vision_width, 3, c.patch_size, c.patch_size)
    shapes[VISION + "embeddings.patch_embedding.weight"] = patch
    shapes[VISION + "embeddings.patch_embedding.bias"] = (c.vision_width,)
    position = (c.tokens_per_image, c.vision_width)
    shapes[VISION + "embeddings.position_embedding.weight"] = position
    for i in range(c.vision_depth):
        layer = f"{VISION}encoder.layers.{i}"
        layer_norm(f"{layer}.layer_norm1")
        layer_norm(f"{layer}.layer_norm2")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{layer}.self_attn.{part}", c.vision_width, c.vision_width)
        linear(f"{layer}.mlp.fc1", c.vision_width, c.vision_mlp)
        linear(f"{layer}.mlp.fc2", c.vision_mlp, c.vision_width)
    layer_norm(VISION + "post_layernorm")
    linear(_PROJECTOR.removesuffix("."), c.vision_width, c.prefix_width)

    shapes[EMBED_TOKENS] = (c.vocab_size, c.prefix_width)
    for i in range(c.depth):
        gemma_layer(f"{PREFIX}layers.{i}", c.prefix_width, c.prefix_mlp)
        gemma_layer(f"{EXPERT}layers.{i}", c.expert_width, c.expert_mlp, c.pi05)
    norm(PREFIX + "norm", c.prefix_width)
    norm(EXPERT + "norm", c.expert_width, c.pi05)
    shapes[_EXPERT_HEAD] = (c.vocab_size, c.expert_width)

    linear("action_in_proj", c.max_action_dim, c.expert_width)
    if c.pi05:
        linear("time_mlp_in", c.expert_width, c.expert_width)
        linear("time_mlp_out", c.expert_width, c.expert_width)
    else:
        linear("state_proj", c.max_state_dim, c.expert_width)
        linear("action_time_mlp_in", 2 * c.expert_width, c.expert_width)
        linear("action_time_mlp_out", c.expert_width, c.expert_width)
    linear("action_out_proj", c.expert_width, c.max_action_dim)
    return shapes


def is_unused(key: str, c: Pi0Config) -> bool:
    """Whether a checkpoint's tensor belongs to pi0 but no action depends on it."""
    last = re.escape(f"{PREFIX}layers.{c.depth - 1}.")
    return (
        key in (_EXPERT_HEAD, PREFIX + "norm.weight")
        or re.match(last + r"(self_attn\.[qo]_proj|post_attention_layernorm|mlp\.)", key)
        is not None
    )


def sources(c: Pi0Config) -> dict[str, Source]:
    """Name of each parameter of `Pi0` -> where it comes from."""
    out: dict[str, Source] = {}

    def linear(name: str, *keys: str, bias: bool = False, keep_float32: bool = False) -> None:
        weights = tuple(f"{k}.weight" for k in keys)
        out[f"{name}.weight"] = Source(weights, _transposed, keep_float32)
        if bias:
            out[f"{name}.bias"] = Source(tuple(f"{k}.bias" for k in keys), _joined, keep_float32)

    def gain(name: str, key: str) -> None:
        out[name] = Source((f"{key}.weight",), _one_plus, keep_float32=True)

    def layer_norm(name: str, key: str) -> None:
        for part in ("weight", "bias"):
            out[f"{name}.{part}"] = Source((f"{key}.{part}",), _joined)

    def gemma(name: str, key: str, depth: int, adaptive: bool = False) -> None:
        for i in range(depth):
            ours, theirs = f"{name}.layers.{i}", f"{key}layers.{i}"
            if not adaptive:
                gain(f"{ours}.attention_norm", f"{theirs}.input_layernorm")
                gain(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm")
            linear(f"{ours}.qkv", *(f"{theirs}.self_attn.{p}_proj" for p in "qkv"))
            linear(f"{ours}.out", f"{theirs}.self_attn.o_proj")
            linear(f"{ours}.gate_up", f"{theirs}.mlp.gate_proj", f"{theirs}.mlp.up_proj")
            linear(f"{ours}.down", f"{theirs}.mlp.down_proj")

    linear("vision.patch", VISION + "embeddings.patch_embedding", bias=True)
    position = VISION + "embeddings.position_embedding.weight"
    out["vision.position"] = Source((position,), _joined)
    for i in range(c.vision_depth):
        ours, theirs = f"vision.layers.{i}", f"{VISION}encoder.layers.{i}"
        layer_norm(f"{ours}.attention_norm", f"{theirs}.layer_norm1")
        layer_norm(f"{ours}.mlp_norm", f"{theirs}.layer_norm2")
        linear(f"{ours}.qkv", *(f"{theirs}.self_attn.{p}_proj" for p in "qkv"), bias=True)
        linear(f"{ours}.out", f"{theirs}.self_attn.out_proj", bias=True)
        linear(f"{ours}.up", f"{theirs}.mlp.fc1", bias=True)
        linear(f"{ours}.down", f"{theirs}.mlp.fc2", bias=True)
    layer_norm("vision.norm", VISION + "post_layernorm")
    linear("vision.project", _PROJECTOR.removesuffix("."), bias=True)

    out["embed_tokens"] = Source((EMBED_TOKENS,), _joined)
    gemma("prefix", PREFIX, c.depth - 1)
    last = f"{PREFIX}layers.{c.depth - 1}."
    gain("prefix.norm", last + "input_layernorm")
    linear("prefix_last_kv", last + "self_attn.k_proj", last + "self_attn.v_proj")
    gemma("expert", EXPERT, c.depth, c.pi05)

    linear("action_out", "action_out_proj", bias=True)
    if c.pi05:
        _pi05_sources(c, linear)
        return out
    gain("expert.norm", EXPERT + "norm")
    linear("state_in", "state_proj", bias=True)
    linear("action_time", "action_time_mlp_out", bias=True)
    mlp_in = ("action_time_mlp_in.weight", "action_time_mlp_in.bias")
    action = ("action_in_proj.weight", "action_in_proj.bias")
    out["action_in.weight"] = Source((action[0], mlp_in[0]), _fold_action_weight)
    out["time_in.weight"] = Source(mlp_in[:1], lambda w: w[:, w.shape[0] :].t())
    out["time_in.bias"] = Source((action[1], *mlp_in), _fold_action_bias)
    return out


def _pi05_sources(c: Pi0Config, linear: Callable[..., None]) -> None:
    """What pi0.5 has instead of a state token and an action-time MLP."""
    linear("action_in", "action_in_proj", bias=True)
    linear("time_in.mlp.0", "time_mlp_in", bias=True, keep_float32=True)
    linear("time_in.mlp.1", "time_mlp_out", bias=True, keep_float32=True)
    norms = [
        f"{EXPERT}layers.{i}.{norm}"
        for i in range(c.depth)
        for norm in ("input_layernorm", "post_attention_layernorm")
    ]
    for index, key in enumerate([*norms, EXPERT + "norm"]):
        linear(f"time_in.norms.{index}", f"{key}.dense", bias=True, keep_float32=True)


def converts(name: str, source: Source) -> bool:
    """Whether a parameter's tensors may be converted before the parameter is built of them."""
    as_they_are = source.build in (_joined, _transposed)
    return as_they_are and not source.keep_float32 and name != "embed_tokens"


_TELLS = {"pi0": "action_time_mlp_in.weight", "pi05": "time_mlp_in.weight"}
"""A tensor that only this variant has."""


def check_keys(keys: Mapping[str, TensorInfo], c: Pi0Config, others: Collection[str]) -> list[str]:
    """Everything wrong with a checkpoint's tensors; empty when they fit.

    Args:
        keys: canonical name -> tensor.
        others: canonical names that are there for another purpose (statistics).
    """
    other = next((v for v in VARIANTS if v != c.variant and _TELLS[v] in keys), None)
    if other and _TELLS[c.variant] not in keys:
        return [
            f"config.json says {c.variant}, but the tensors are those of {other}: the weights or"
            " config.json are another checkpoint's"
        ]
    problems = []
    shapes = checkpoint_shapes(c)
    tied = (EMBED_TOKENS, LM_HEAD)
    if LM_HEAD in keys:
        shapes[LM_HEAD] = shapes[EMBED_TOKENS]
    for key, shape in shapes.items():
        if key not in keys:
            if not is_unused(key, c) and not (key in tied and any(k in keys for k in tied)):
                problems.append(f"missing tensor {key} {list(shape)}")
        elif keys[key].shape != shape:
            problems.append(f"{key} has shape {list(keys[key].shape)}, expected {list(shape)}")
        elif keys[key].dtype not in DTYPES:
            problems.append(f"{key} has dtype {keys[key].dtype}, expected {', '.join(DTYPES)}")
    for key in keys:
        if key not in shapes and key not in others:
            problems.append(f"unexpected tensor {plain(keys[key].name)} {list(keys[key].shape)}")
    return problems


def load_weights(
    tensors: Tensors,
    config: Pi0Config,
    dtype: torch.dtype,
    device: torch.device,
    ops: Ops | None = None,
) -> Pi0:
    """A `Pi0` with a checkpoint's weights; check them with `check_keys` before.

    Parameters are built one at a time, so that at no time two copies of the weights are in memory,
    and nothing depends on the files afterwards. pi0's token embedding stays in host memory, in the
    file's dtype; pi0.5, whose prompt changes all the time, has it on its device.

    Args:
        ops: what the model computes with, which prepares it (default: `Reference`).
    """
    with torch.device("meta"):
        model = Pi0(config, ops)
    plan = sources(config)
    for name, parameter in list(model.named_parameters()):
        source = plan[name]
        is_embedding = name == "embed_tokens"
        on_host = is_embedding and (not config.pi05 or device.type == "cpu")
        # A reader of its own for each: then the pages read do not count as this process's memory.
        with tensors.reader() as read:
            is_tied = is_embedding and EMBED_TOKENS not in tensors
            keys = (LM_HEAD,) if is_tied else source.keys
            value = source.build(*map(read, keys))
            if on_host:
                value = value.clone()
            else:
                kept = torch.float32 if source.keep_float32 else dtype
                is_view = len(keys) == 1 and value.device == device and value.dtype == kept
                value = value.clone() if is_view else value.to(device, kept)
        if not on_host and device.type != "cpu":
            value = value.contiguous()
        if value.shape != parameter.shape:
            raise AssertionError(f"{name}: built {list(value.shape)}, not {list(parameter.shape)}")
        replace(model, name, value)
    return model.ops.prepare(model.eval())


def _joined(*tensors: Tensor) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _transposed(*weights: Tensor) -> Tensor:
    """[out, in, ...] weights of products on one input, to one [in, out] view."""
    return _joined(*(w.flatten(1) for w in weights)).t()


def _one_plus(weight: Tensor) -> Tensor:
    return 1.0 + weight.float()


def _fold_action_weight(action: Tensor, mlp: Tensor) -> Tensor:
    """The MLP's share for actions times the action projection: [action, width]."""
    return (mlp[:, : mlp.shape[0]].float() @ action.float()).t()


def _fold_action_bias(action_bias: Tensor, mlp: Tensor, mlp_bias: Tensor) -> Tensor:
    return mlp[:, : mlp.shape[0]].float() @ action_bias.float() + mlp_bias.float()
