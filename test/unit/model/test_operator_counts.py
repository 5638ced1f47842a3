"""How many operators a frame runs that is captured as it is, by kind: each is a kernel at least.

What inductor makes of a frame for a GPU is not counted. While it generates code it asks CUDA for
the card's properties, streams and guards, and Triton for its driver; a build of torch for CPUs has
neither, and to stand in for them some twenty private functions of torch would have to be replaced.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pi0_ros.model.config import TINY, Pi0Config
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.quantised import Float8Linear, swap

_FREE = {"device", "_unsafe_view"}
"""No view by their schemas, and yet nothing to compute."""


class _Counted(TorchDispatchMode):
    """Operators that compute: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.__name__.partition(".")[0]
        if not any(result.alias_info for result in func._schema.returns) and name not in _FREE:
            self.kinds[name] += 1
        return func(*args, **(kwargs or {}))


def operators(config: Pi0Config, float8: bool = False) -> Counter[str]:
    """Of a frame with two cameras in bfloat16, on tensors without memory."""
    tokens = 2 * config.tokens_per_image + config.prompt_length
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = Pi0(config).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(torch.float32)
        if float8:
            swap(model, lambda name, linear: Float8Linear(linear, 1.0))
        valid = torch.ones(1, tokens, dtype=torch.bool)
        images = torch.empty(1, 2, 3, config.image_size, config.image_size)
        prompt = torch.empty(1, config.prompt_length, config.prefix_width, dtype=torch.bfloat16)
        state = torch.empty(1, config.max_state_dim)
        noise = torch.empty(1, config.horizon, config.max_action_dim)
        layout = model.layout(valid, always_masked=True)
        row = model.time_rows(np.ones(1))[0]
        table = torch.empty(config.num_steps, *row.shape, dtype=torch.bfloat16)
        with _Counted() as counted:
            model(images, prompt, state, noise, layout, table)
    return counted.kinds


def test_operators_of_a_layer() -> None:
    """By frames that have one layer more."""
    base = replace(TINY, vision_depth=1, depth=2, num_steps=1)
    least = operators(base)
    sizes = {
        "vision": replace(base, vision_depth=2),
        "experts": replace(base, depth=3),
        "step": replace(base, num_steps=2),
    }
    more = {name: operators(size) - least for name, size in sizes.items()}
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert more["vision"] == {"addmm": 4, "native_layer_norm": 2, "add": 2, attention: 1, "gelu": 1}
    # Of both experts: four products each, a RoPE, and the joining of keys and values.
    assert more["experts"].items() >= {"mm": 8, attention: 2, "gelu": 2, "cat": 4}.items()
    # Two layers and the projections; actions and state are joined once.
    assert more["step"].items() >= {"mm": 8, "addmm": 3, attention: 2, "gelu": 2, "silu": 1}.items()
    assert more["step"]["cat"] == 2 * 3 + 1

    # Each product that is quantised costs three operators besides.
    eight_bits = operators(base, float8=True)
    added, products = eight_bits - least, 4 + 4 + 1
    assert added == {
        "_scaled_mm": products,
        "div": products,
        "clamp": products,
        "_to_copy": products,
    }
    assert (least - eight_bits)["mm"] + (least - eight_bits)["addmm"] == products
