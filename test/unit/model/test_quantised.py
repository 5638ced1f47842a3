"""Products in eight bits: exact in integers, close on whole inferences, with the right scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.ascend_kernels import OPERATORS
from torch import nn
from unit.model.test_backends import CASES, SMALL, actions, random_model

from pi0_ros.errors import UserError
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import select
from pi0_ros.model.ops.ascend import Ascend, NpuInt8Linear
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.quantised import (
    Calibration,
    CalibrationError,
    Float8Linear,
    Int8Linear,
    fingerprint,
    observed,
    product_names,
    quantise,
)

F32, BF16 = torch.float32, torch.bfloat16
SMALL_CASES = ("plain", "padded prompt", "vision heads of 12", "pi0.5, batch of two")


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "npu", OPERATORS, raising=False)


def linear(dtype: torch.dtype = F32) -> Linear:
    generator = torch.Generator().manual_seed(1)
    made = Linear(64, 48, bias=True).requires_grad_(False)
    made.weight.normal_(generator=generator)
    made.bias.normal_(generator=generator)
    return made.to(dtype)


def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


def calibrated(model: Pi0, case: str) -> Calibration:
    with observed(model) as calibration:
        actions(model, CASES[case])
        return calibration()


def test_int8_is_what_integers_give() -> None:
    """Beside sums in float64 of the same integers, which are exact there, too."""
    own, x = linear(), torch.randn(2, 33, 64) * torch.logspace(-3, 3, 33)[:, None]
    weights = own.weight.double() / own.weight.double().abs().amax(0) * 127
    largest = x.double().abs().amax(-1, keepdim=True)
    sums = torch.round(x.double() / largest * 127) @ torch.round(weights)
    expected = sums * largest / 127 * own.weight.double().abs().amax(0) / 127 + own.bias.double()
    got = Int8Linear(own)(x)
    assert got.dtype == F32 and got.shape == (2, 33, 48)
    torch.testing.assert_close(got.double(), expected, rtol=2e-6, atol=2e-6 * 1e3)
    # A scale per token: the least of them is as good as the largest.
    assert min(likeness(got[0, i], own(x)[0, i]) for i in (0, 32)) > 0.999


def test_zeros_stay_zeros() -> None:
    """Columns that pad heads, and tokens of black."""
    own = linear()
    own.weight[:, 3] = 0
    own.bias[3] = 0
    for quantised in (Int8Linear(own), Float8Linear(own, 4.0)):
        out = quantised(torch.cat((torch.zeros(1, 64), torch.randn(1, 64))))
        assert out.isfinite().all() and not out[:, 3].any()
        torch.testing.assert_close(out[0], own.bias)


def test_float8_is_what_its_casts_give_and_saturates() -> None:
    own, x = linear(BF16), torch.randn(7, 64).to(BF16)
    quantised = Float8Linear(own, float(x.abs().max()))
    assert quantised.weight.dtype == torch.float8_e4m3fn and quantised.weight.t().is_contiguous()
    rows = (x / quantised.input_scale).to(torch.float8_e4m3fn).double() * quantised.input_scale
    expected = rows @ (quantised.weight.double() * quantised.scale) + own.bias.double()
    got = quantised(x)
    assert got.dtype == BF16
    torch.testing.assert_close(got.double(), expected, rtol=2**-7, atol=2**-6)
    assert likeness(got, own(x)) > 0.998
    # Beyond what was recorded it stays the largest number that there is, and is no NaN.
    assert quantised(x * 1000).isfinite().all()


@pytest.mark.parametrize("case", SMALL_CASES)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_actions_pass_the_gate(case: str, dtype: torch.dtype) -> None:
    of = CASES[case]
    full = random_model(of.config, Reference(), dtype)
    expected = actions(full, of)
    for ops in (Reference("int8"), Reference("float8", calibrated(full, case))):
        got = actions(random_model(of.config, ops, dtype), of)
        assert 0.99 <= likeness(got, expected) < 0.99999999, "it computes otherwise, and well"


@pytest.mark.parametrize("case", SMALL_CASES)
def test_ascends_kernels_compute_what_the_reference_does(case: str) -> None:
    """Norms go to int8 without being rounded between, hence not to the last bit."""
    of = CASES[case]
    expected = actions(random_model(of.config, Reference("int8"), F32), of)
    model = random_model(of.config, Ascend("fia", precision="int8"), BF16)
    assert likeness(actions(model, of), expected) >= 0.999
    assert isinstance(model.prefix.layers[0].qkv, NpuInt8Linear)


def test_on_ascend_quantising_rides_in_the_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(("npu_add_rms_norm_dynamic_quant", "npu_dynamic_quant"), 0)

    def counted(name):
        kernel = getattr(OPERATORS, name)

        def call(*args, **more):
            counts[name] += 1
            return kernel(*args, **more)

        return call

    for name in counts:
        monkeypatch.setattr(OPERATORS, name, counted(name))
    config = replace(SMALL, depth=3, vision_depth=2)
    case = replace(CASES["plain"], config=config)
    actions(random_model(config, Ascend("fia", precision="int8"), BF16), case)
    assert counts["npu_add_rms_norm_dynamic_quant"] == 2 * 2, "of the prefix, all"
    # The first norm, attention and hidden values of the prefix; all products of vision.
    assert counts["npu_dynamic_quant"] == 1 + 2 * 2 + 4 * 2


def test_the_action_expert_and_what_is_first_and_last_stay() -> None:
    model = random_model(SMALL, Reference("int8"), BF16)
    kept = {n for n, m in model.named_modules() if isinstance(m, Linear)}
    assert {"vision.patch", "vision.project", "action_out", "expert.layers.0.down"} <= kept
    assert not any(name.startswith(("vision.layers", "prefix")) for name in kept)
    assert all(isinstance(p, nn.Parameter) and not p.requires_grad for p in model.parameters())
    assert model.prefix.layers[0].down.weight.dtype == torch.int8


def test_what_was_observed_is_the_largest_of_each_product() -> None:
    model = random_model(SMALL, Reference(), F32)
    seen = calibrated(model, "plain")
    assert set(seen.inputs) == set(product_names(model)) and min(seen.inputs.values()) > 0
    assert not any(m._forward_pre_hooks for m in model.modules()), "hooks are gone"
    name = "vision.layers.0.qkv"
    given = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda module, args: given.append(args[0])
    )
    actions(model, CASES["plain"])
    hook.remove()
    assert seen.inputs[name] == float(given[0].abs().max())


def test_scales_are_refused_for_other_weights() -> None:
    model = random_model(SMALL, Reference(), F32)
    made = calibrated(model, "plain")
    assert fingerprint(random_model(SMALL, Reference(), BF16)) == made.weights, "of any dtype"
    with pytest.raises(CalibrationError, match="pi0 compile --precision float8 --calibrate"):
        quantise(model, "float8", None)
    other = random_model(SMALL, Reference(), F32)
    other.prefix.layers[1].down.weight *= 1.1
    with pytest.raises(CalibrationError, match=f"were made of other weights .{made.weights}."):
        quantise(other, "float8", made)
    with pytest.raises(UserError, match=r"there are no scales of vision\.layers\.0\.qkv"):
        quantise(model, "float8", Calibration(made.weights, {}))
    assert isinstance(model.prefix.layers[0].qkv, Linear), "nothing was changed"
    quantise(model, "float8", made)
    assert isinstance(model.prefix.layers[0].qkv, Float8Linear)


def test_a_backend_takes_a_precision() -> None:
    cpu = torch.device("cpu")
    assert select(cpu, F32, precision="int8").precision == "int8"
    npu = type("Device", (), {"type": "npu"})()
    assert select(npu, BF16, "torchair", precision="int8") == Ascend(
        "fia", dense_views=True, precision="int8"
    )
    with pytest.raises(ValueError, match="precision on an NPU must be one of full, int8"):
        select(npu, BF16, precision="float8")
    assert select(torch.device("cuda", 0), BF16, precision="float8").precision == "float8"
