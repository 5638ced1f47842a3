"""Runs the model with the Ascend backend on the CPU and compares it with the reference.

    python -m npu.under_stand_ins STAND_INS npu.measure OUT.json

in a process of its own, because torch_npu changes how torch and other libraries behave. Writes
{"parity": {case: {backend: max abs difference}}, "traps": {trap: the same}, "npugraph_ex": max abs
difference, "int8": {case: cosine}, "no_stand_in_computes": error message}.

Calls pass torch_npu's own operator schemas; the unit tests of the model run the same kernels in
more cases and in bfloat16.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch_npu  # noqa: F401
from npu import cpu_kernels  # noqa: F401

from pi0_ros.model.config import TINY, TINY_PI05, Pi0Config
from pi0_ros.model.ops import Ops, ascend
from pi0_ros.model.ops.ascend import Ascend
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.pi0 import Pi0

SMALL = replace(TINY, num_steps=3)
SMALL_PI05 = replace(TINY_PI05, num_steps=3)
BACKENDS = {
    "fia": Ascend("fia"),
    "pfa": Ascend("pfa"),
    "fia broadcast": Ascend("fia", rotary="broadcast", padded_masks=True),
    "pfa broadcast": Ascend("pfa", rotary="broadcast", padded_masks=True),
}
# Attention kernels offer no float32; these stand-ins for them do.
ascend.DTYPES = (*ascend.DTYPES, torch.float32)


def random_model(config: Pi0Config, ops: Ops, dtype: torch.dtype = torch.float32) -> Pi0:
    """Random weights of the usual scale, the same for every backend."""
    generator = torch.Generator().manual_seed(7)
    model = Pi0(config, ops).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        scale = parameter.shape[0] ** -0.5 if parameter.dim() > 1 else 0.1
        torch.nn.init.normal_(parameter, std=scale, generator=generator)
        if name.endswith(("norm", "norm.weight")):
            parameter.add_(1.0)
    return ops.prepare(model.to(dtype))


# Sizes and batch; the last row's last prompt tokens are padding where there are to be any.
CASES: dict[str, tuple[Pi0Config, int, int]] = {
    "plain": (SMALL, 1, 0),
    "padded prompt": (SMALL, 1, 4),
    "batch of two": (SMALL, 2, 6),
    "vision heads of 12": (replace(SMALL, vision_width=48), 1, 0),
    "two key heads": (replace(SMALL, kv_heads=2), 1, 4),
    "pi0.5": (SMALL_PI05, 1, 0),
    "pi0.5, padded prompt": (SMALL_PI05, 1, 4),
    "pi0.5, batch of two": (SMALL_PI05, 2, 6),
}


def inputs(model: Pi0, batch: int, padding: int) -> tuple[Any, ...]:
    """The arguments of `Pi0.forward`."""
    c = model.config
    generator = torch.Generator().manual_seed(3)
    shape = (batch, 3, 3, c.image_size, c.image_size)
    images = torch.rand(shape, generator=generator) * 2 - 1
    tokens = torch.randint(3, c.vocab_size, (batch, 9), generator=generator)
    state = torch.randn(batch, c.max_state_dim, generator=generator)
    noise = torch.randn(batch, c.horizon, c.max_action_dim, generator=generator)
    valid = torch.ones(batch, 3 * c.tokens_per_image + 9, dtype=torch.bool)
    if padding:
        valid[-1, -padding:] = False
    prompt = model.embed_prompt(tokens)
    return images, prompt, state, noise, model.layout(valid), model.time_table()


def difference(case: str, ops: Ops) -> float:
    """Largest difference of an action from the reference; actions are about 1 in size."""
    config, *rest = CASES[case]
    reference, model = random_model(config, Reference()), random_model(config, ops)
    expected, got = (m(*inputs(m, *rest)) for m in (reference, model))
    return (got - expected).abs().max().item()


class MaskInverted(Ascend):
    def attention_mask(self, mask, group, dtype):
        return ~mask


class NormWithoutOne(Ascend):
    def prepare(self, model):
        super().prepare(model)
        for name, parameter in model.named_parameters():
            if name.startswith(("prefix", "expert")) and name.endswith("norm"):
                parameter.sub_(1.0)
        return model


class HalvesSwapped(Ascend):
    def geglu(self, x, linear, bias=None):
        return torch.ops.npu.npu_geglu(linear(x, bias), -1, 1)[0]


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def traps() -> dict[str, float]:
    """What the comparison says when a kernel is called as its defaults or its name suggest."""
    out = {
        "mask inverted": difference("padded prompt", MaskInverted()),
        "norm without 1 +": difference("plain", NormWithoutOne()),
        "geglu halves swapped": difference("plain", HalvesSwapped()),
    }
    with instead(ascend, "ALL_TOKENS", 0):
        out["causal by default"] = difference("padded prompt", Ascend("pfa"))
    right: Callable[..., torch.Tensor] = torch.ops.npu.npu_rotary_mul

    def interleaved(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mode: str) -> Any:
        return right(x, cos, sin, "interleave")

    with instead(torch.ops.npu, "npu_rotary_mul", interleaved):
        out["RoPE interleaved"] = difference("plain", Ascend())
    return out


def npugraph_ex_difference() -> float:
    """Of the front half of backend npugraph_ex, whose graph is run by the CPU kernels."""
    model = random_model(replace(TINY, num_steps=2, depth=2, vision_depth=1), Ascend())
    arguments = inputs(model, 1, 4)
    expected = model(*arguments)
    options = {"force_eager": True}
    compiled = torch.compile(
        model, backend="npugraph_ex", options=options, fullgraph=True, dynamic=False
    )
    return (compiled(*arguments) - expected).abs().max().item()


def int8_cosines() -> dict[str, float]:
    """Of actions by torch_npu's int8 operators, with those of plain PyTorch in int8, in float32."""
    cosines = {}
    for case in ("plain", "padded prompt", "vision heads of 12"):
        config, *rest = CASES[case]
        reference = random_model(config, Reference("int8"))
        model = random_model(config, Ascend(precision="int8"), torch.bfloat16)
        expected, got = (m(*inputs(m, *rest)).double().flatten() for m in (reference, model))
        cosines[case] = torch.cosine_similarity(expected, got, dim=0).item()
    return cosines


def eager_error() -> str:
    """What computing on the stand-in device says."""
    try:
        return f"it computed {(torch.empty(2, device='npu') + 1).cpu()}"
    except RuntimeError as error:
        return str(error)


def main(out: str) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        figures = {
            "parity": {
                case: {name: difference(case, ops) for name, ops in BACKENDS.items()}
                for case in CASES
            },
            "traps": traps(),
            "int8": int8_cosines(),
            "npugraph_ex": npugraph_ex_difference(),
            "no_stand_in_computes": eager_error(),
        }
    Path(out).write_text(json.dumps(figures, indent=2))
