"""A model prepared for a CPU computes what the model as it was loaded does."""

from dataclasses import replace

import pytest
import torch

from pi0_ros.model.config import TINY, Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import onednn as cpu
from pi0_ros.model.pi0 import Pi0

CONFIG = replace(TINY, num_steps=3)
# (largest difference, cosine) of actions of root mean square 1.3.
GATES = {torch.float32: (2e-5, 0.9999999), torch.bfloat16: (0.06, 0.9999)}


def model_of(config: Pi0Config, dtype: torch.dtype) -> Pi0:
    """Random weights, each product's as [out, in] in memory, as a checkpoint has them."""
    model = Pi0(config).eval().requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.1, generator=g)
        else:
            parameter.normal_(0.0, parameter.shape[0] ** -0.5, generator=g)
    for module in model.modules():
        if isinstance(module, Linear):
            weight = module.weight.t().contiguous().t().to(dtype)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                module.bias = torch.nn.Parameter(module.bias.to(dtype), requires_grad=False)
    model.vision.to(dtype)
    return model


def actions(model: Pi0, batch: int = 1, masked: int = 0) -> torch.Tensor:
    c, g = model.config, torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 2, 3, c.image_size, c.image_size, generator=g) * 2 - 1
    tokens = torch.randint(3, c.vocab_size, (batch, 7), generator=g)
    state = torch.randn(batch, c.max_state_dim, generator=g)
    noise = torch.randn(batch, c.horizon, c.max_action_dim, generator=g)
    valid = torch.ones(batch, 2 * c.tokens_per_image + 7, dtype=torch.bool)
    if masked:
        valid[-1, -masked:] = False
    with torch.inference_mode():
        prompt = model.embed_prompt(tokens)
        return model(images, prompt, state, noise, model.layout(valid), model.time_table())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize(("batch", "masked"), [(1, 0), (2, 3)])
def test_a_prepared_model_computes_the_same(
    dtype: torch.dtype, kv_heads: int, batch: int, masked: int
) -> None:
    if not cpu.supported(dtype):
        pytest.skip(f"this CPU has no {dtype} kernels")
    model = model_of(replace(CONFIG, kv_heads=kv_heads), dtype)
    expected = actions(model, batch, masked)
    assert cpu.prepare(model) is model
    assert model.is_prepared
    got = actions(model, batch, masked)
    most, cosine = GATES[dtype]
    assert (got - expected).abs().max() <= most
    assert torch.cosine_similarity(got.flatten(), expected.flatten(), dim=0) >= cosine
    assert expected.square().mean() > 0.5
    assert torch.equal(actions(model, batch, masked), got), "an inference changed the model"


def test_preparing_twice_changes_nothing() -> None:
    model = model_of(CONFIG, torch.float32)
    once = actions(cpu.prepare(model))
    assert torch.equal(actions(cpu.prepare(model)), once)


def test_the_experts_weights_are_held_once() -> None:
    model = cpu.prepare(model_of(CONFIG, torch.float32))
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            is_packed = name.startswith("expert.")
            assert (module.weight is None) == is_packed, name
            assert all(rows.is_mkldnn == is_packed for rows in module.rows), name
            if not is_packed:
                assert module.rows[0].data_ptr() == module.weight.data_ptr(), name


def test_no_kernels_no_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "supported", lambda dtype: False)
    model = model_of(CONFIG, torch.float32)
    before = actions(model)
    assert torch.equal(actions(cpu.prepare(model)), before)
    assert not model.is_prepared
