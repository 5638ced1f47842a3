"""Runs the model's NPU path on the CPU and compares it with the reference path.

    python measure.py STAND_INS OUT.json

in a process of its own, because torch_npu changes how torch and other libraries behave. Writes
{"parity": {case: {kernel: max abs difference}}, "traps": {trap: the same}, "bfloat16": cosine,
"npugraph_ex": max abs difference, "no_stand_in_computes": error message}.
"""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.graph_report import stand_ins as ascend_stubs

ascend_stubs.load(Path(sys.argv[1]))

import cpu_kernels  # noqa: E402, F401
import torch  # noqa: E402
import torch_npu  # noqa: E402, F401

from pi0_ros.model.config import TINY, Pi0Config  # noqa: E402
from pi0_ros.model.ops import ascend as npu  # noqa: E402
from pi0_ros.model.ops import reference as ops  # noqa: E402
from pi0_ros.model.pi0 import Pi0  # noqa: E402

ops_npu = torch.ops.npu
KERNELS = ("fia", "pfa")
Change = Callable[[torch.Tensor], None]


def random_model(config: Pi0Config, peak: float = 1.0) -> Pi0:
    """Random weights of the usual scale; `peak` multiplies queries and keys."""
    generator = torch.Generator().manual_seed(7)
    model = Pi0(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        scale = parameter.shape[0] ** -0.5 if parameter.dim() > 1 else 0.1
        torch.nn.init.normal_(parameter, std=scale, generator=generator)
        if name.endswith(("norm", "norm.weight")):
            parameter.add_(1.0)
    for layer in [*model.prefix.layers, *model.expert.layers]:
        layer.qkv.weight[:, : (config.heads + config.kv_heads) * config.head_dim] *= peak
    return model


def all_valid(valid: torch.Tensor) -> None:
    pass


def masked_camera(valid: torch.Tensor) -> None:
    valid[:, TINY.tokens_per_image : 2 * TINY.tokens_per_image] = False


def padded_prompt(valid: torch.Tensor) -> None:
    valid[:, -4:] = False


def ragged_batch(valid: torch.Tensor) -> None:
    valid[0, -6:] = False


# Sharper attention than this turns the last bit of an input into more than the tolerance, on
# either path: about half of a query's weight lies on one key, and more in the shallower model.
CASES: dict[str, tuple[Pi0Config, float, int, Change]] = {
    "plain": (TINY, 1.0, 1, all_valid),
    "peaked attention": (TINY, 2.0, 1, all_valid),
    "more peaked, two layers": (replace(TINY, depth=2), 2.5, 1, all_valid),
    "masked camera": (TINY, 1.0, 1, masked_camera),
    "padded prompt": (TINY, 1.0, 1, padded_prompt),
    "batch of two": (TINY, 1.0, 2, ragged_batch),
    "vision heads of 12": (replace(TINY, vision_width=48), 1.0, 1, all_valid),
    "two key heads": (replace(TINY, kv_heads=2), 1.0, 1, padded_prompt),
}


@contextmanager
def on_npu(attention: str) -> Iterator[None]:
    """CPU tensors take the NPU path, also in float32, which attention kernels do not offer."""
    before = ops.on_npu, npu.ATTENTION_DTYPES
    ops.on_npu = lambda x: True
    npu.ATTENTION_DTYPES = (*npu.ATTENTION_DTYPES, torch.float32)
    npu.configure(attention=attention)
    try:
        yield
    finally:
        ops.on_npu, npu.ATTENTION_DTYPES = before
        npu.configure()


def inputs(model: Pi0, batch: int, change: Change) -> Callable[[], tuple[Any, ...]]:
    """Makes the arguments of `Pi0.forward`, for whichever path is on."""
    c = model.config
    generator = torch.Generator().manual_seed(3)
    shape = (batch, 3, 3, c.image_size, c.image_size)
    images = torch.rand(shape, generator=generator) * 2 - 1
    tokens = torch.randint(3, c.vocab_size, (batch, 9), generator=generator)
    state = torch.randn(batch, c.max_state_dim, generator=generator)
    noise = torch.randn(batch, c.horizon, c.max_action_dim, generator=generator)
    valid = torch.ones(batch, 3 * c.tokens_per_image + 9, dtype=torch.bool)
    change(valid)
    return lambda: (
        images,
        model.embed_prompt(tokens),
        state,
        noise,
        model.layout(valid),
        model.time_table(),
    )


def difference(case: str, attention: str) -> float:
    """Largest difference of an action between the two paths; actions are about 1 in size."""
    config, peak, batch, change = CASES[case]
    model = random_model(config, peak)
    arguments = inputs(model, batch, change)
    expected = model(*arguments())
    with on_npu(attention):
        npu.prepare(model)
        got = model(*arguments())
    return (got - expected).abs().max().item()


@contextmanager
def instead(name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(npu, name)
    setattr(npu, name, function)
    try:
        yield
    finally:
        setattr(npu, name, before)


def traps() -> dict[str, float]:
    """What the comparison says when a kernel is called as its defaults or its name suggest."""
    right = npu.attention, npu.prepare

    def inverted(q, k, v, masked, *rest):
        return right[0](q, k, v, None if masked is None else ~masked, *rest)

    def without_one(model):
        prepared = right[1](model)
        for stack in (prepared.prefix, prepared.expert):
            for name, parameter in stack.named_parameters():
                if name.endswith("norm"):
                    parameter.sub_(1.0)
        return prepared

    def swapped(x):
        return ops_npu.npu_geglu(x, -1, 1)[0]

    def interleaved(x, cos, sin):
        rows = x.reshape(x.shape[0], -1, 1, x.shape[-1])
        cos, sin = (t.reshape(t.shape[0], -1, 1, t.shape[-1]) for t in (cos, sin))
        if cos.shape[1] != rows.shape[1]:
            return ops_npu.npu_rotary_mul(x, cos, sin, "interleave")
        return ops_npu.npu_rotary_mul(rows, cos, sin, "interleave").view(x.shape)

    wrong = {
        "mask not inverted": ("attention", inverted, "masked camera", "fia"),
        "norm without 1 +": ("prepare", without_one, "plain", "fia"),
        "causal by default": ("ALL_TOKENS", 0, "padded prompt", "pfa"),
        "geglu halves swapped": ("geglu", swapped, "plain", "fia"),
        "rotary interleaved": ("rotary", interleaved, "plain", "fia"),
    }
    out = {}
    for trap, (name, value, case, attention) in wrong.items():
        with instead(name, value):
            out[trap] = difference(case, attention)
    return out


def bfloat16_cosine() -> float:
    """Of the NPU path in bfloat16 and the reference path in float32, on the same weights."""
    model = random_model(TINY)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    half = copy.deepcopy(model)
    for name, parameter in half.named_parameters():
        if name != "embed_tokens":
            parameter.data = parameter.data.bfloat16()
    expected = model(*inputs(model, 1, padded_prompt)())
    with on_npu("fia"):
        npu.prepare(half)
        got = half(*inputs(half, 1, padded_prompt)())
    return torch.cosine_similarity(got.flatten(), expected.flatten(), dim=0).item()


def npugraph_ex_difference() -> float:
    """Of the front half of backend npugraph_ex, whose graph is run by the CPU kernels."""
    model = random_model(replace(TINY, num_steps=2, depth=2, vision_depth=1))
    with on_npu("fia"):
        npu.prepare(model)
        arguments = inputs(model, 1, padded_prompt)()
        expected = model(*arguments)
        compiled = torch.compile(
            model,
            backend="npugraph_ex",
            options={"force_eager": True},
            fullgraph=True,
            dynamic=False,
        )
        return (compiled(*arguments) - expected).abs().max().item()


def eager_error() -> str:
    """What computing on the stand-in device says."""
    try:
        return f"it computed {(torch.empty(2, device='npu') + 1).cpu()}"
    except RuntimeError as error:
        return str(error)


def main() -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        figures = {
            "parity": {case: {k: difference(case, k) for k in KERNELS} for case in CASES},
            "traps": traps(),
            "bfloat16": bfloat16_cosine(),
            "npugraph_ex": npugraph_ex_difference(),
            "no_stand_in_computes": eager_error(),
        }
    Path(sys.argv[2]).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
