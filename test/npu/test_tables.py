"""The rotary tables that the NPU path gets, on the reference path."""

import pytest
import torch

from pi0_ros.model.config import TINY
from pi0_ros.model.ops import reference as ops
from pi0_ros.model.pi0 import Pi0


@pytest.fixture(scope="module")
def model() -> Pi0:
    generator = torch.Generator().manual_seed(0)
    model = Pi0(TINY).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("batch", [1, 2])
def test_a_row_per_head_turns_a_fused_projection(
    model: Pi0, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    valid = torch.ones(batch, 20, dtype=torch.bool)
    valid[0, 3:7] = False
    plain = model.layout(valid).prefix_turn
    with monkeypatch.context() as patch:
        patch.setattr(ops, "on_npu", lambda x: True)
        rows = model.layout(valid).prefix_turn
    heads = TINY.heads + 2 * TINY.kv_heads
    assert rows[0].shape == rows[1].shape == (batch, 20, heads, TINY.head_dim)
    x = torch.randn(batch, 20, TINY.prefix_width, generator=torch.Generator().manual_seed(1))
    layer = model.prefix.layers[0]
    for got, expected in zip(
        layer.queries_keys_values(x, rows), layer.queries_keys_values(x, plain), strict=True
    ):
        assert torch.equal(got, expected)


def test_they_have_the_dtype_of_the_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    half = Pi0(TINY).to(torch.bfloat16)
    monkeypatch.setattr(ops, "on_npu", lambda x: True)
    layout = half.layout(torch.ones(1, 20, dtype=torch.bool))
    for turn in (layout.prefix_turn, layout.state_turn, layout.action_turn):
        assert {table.dtype for table in turn} == {torch.bfloat16}


def test_tables_of_other_heads_are_refused() -> None:
    table = torch.ones(1, 5, 3, 8)
    with pytest.raises(ValueError, match=r"1 or 4, 8\], got \[1, 5, 3, 8\]"):
        ops.rotary(torch.ones(1, 5, 4, 8), table, table)
