"""Every backend is held to the reference, on whole inferences of small random models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from support.ascend_kernels import OPERATORS
from torch import Tensor, nn

from pi0_ros.model.config import TINY, TINY_PI05, Pi0Config
from pi0_ros.model.flow_time import flow_times
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import Ops, ascend, cuda, onednn, select
from pi0_ros.model.ops.ascend import Ascend
from pi0_ros.model.ops.onednn import OneDnn, Rows
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guided, Trained, guidance

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SMALL = replace(TINY, num_steps=3)
SMALL_PI05 = replace(TINY_PI05, num_steps=3)


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ascend's operators on the CPU; in float32 too, which its attention kernels do not offer."""
    monkeypatch.setattr(torch.ops, "npu", OPERATORS, raising=False)
    monkeypatch.setattr(ascend, "DTYPES", (F16, BF16, F32))


def random_model(config: Pi0Config, ops: Ops, dtype: torch.dtype, peak: float = 1.0) -> Pi0:
    """The same random weights for every backend, each product's as [out, in] in memory.

    Args:
        peak: multiplies queries and keys, so that attention is sharper.
    """
    model = Pi0(config, ops).eval().requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            is_gain = "norm" in name and not name.startswith("time_in.")
            parameter.normal_(1.0 if is_gain else 0.0, 0.1, generator=g)
        else:
            parameter.normal_(0.0, parameter.shape[0] ** -0.5, generator=g)
    for stack in (model.prefix, model.expert):
        for layer in stack.layers:
            layer.qkv.weight[:, : (config.heads + config.kv_heads) * config.head_dim] *= peak
    for name, module in model.named_modules():
        # What the flow time passes through in pi0.5 is kept in float32.
        if isinstance(module, Linear) and not name.startswith("time_in."):
            weight = module.weight.t().contiguous().t().to(dtype)
            module.weight = nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.to(dtype), requires_grad=False)
    model.vision.to(dtype)
    return ops.prepare(model)


@dataclass(frozen=True)
class Case:
    config: Pi0Config = SMALL
    peak: float = 1.0
    batch: int = 1
    camera: int | None = None  # masked out
    padding: int = 0  # of the last row's prompt
    rtc: str = "off"


CASES = {
    "plain": Case(),
    "peaked attention": Case(peak=2.0),
    "more peaked, two layers": Case(replace(SMALL, depth=2), peak=2.5),
    "masked camera": Case(camera=1),
    "padded prompt": Case(padding=4),
    "batch of two": Case(batch=2, padding=3),
    "two key heads": Case(replace(SMALL, kv_heads=2), batch=2, padding=3),
    "vision heads of 12": Case(replace(SMALL, vision_width=48)),
    "pi0.5": Case(SMALL_PI05),
    "pi0.5, peaked attention": Case(SMALL_PI05, peak=2.0),
    "pi0.5, masked camera": Case(SMALL_PI05, camera=1),
    "pi0.5, batch of two": Case(SMALL_PI05, batch=2, padding=3),
    "pi0.5, two key heads": Case(replace(SMALL_PI05, kv_heads=2), padding=3),
    "guided": Case(rtc="guided"),
    "given actions": Case(rtc="trained"),
    "pi0.5, given actions": Case(SMALL_PI05, batch=2, padding=3, rtc="trained"),
}


def arguments(model: Pi0, case: Case) -> tuple[Any, ...]:
    """Of `Pi0.forward`: three cameras, nine prompt tokens."""
    c, g = model.config, torch.Generator().manual_seed(3)
    images = torch.rand(case.batch, 3, 3, c.image_size, c.image_size, generator=g) * 2 - 1
    tokens = torch.randint(3, c.vocab_size, (case.batch, 9), generator=g)
    state = torch.randn(case.batch, c.max_state_dim, generator=g)
    noise = torch.randn(case.batch, c.horizon, c.max_action_dim, generator=g)
    valid = torch.ones(case.batch, 3 * c.tokens_per_image + 9, dtype=torch.bool)
    if case.camera is not None:
        valid[:, case.camera * c.tokens_per_image :][:, : c.tokens_per_image] = False
    if case.padding:
        valid[-1, -case.padding :] = False
    prompt = model.embed_prompt(tokens)
    rtc: Guided | Trained | None = None
    target = torch.randn(noise.shape, generator=g)
    if case.rtc == "guided":
        tables = guidance(np.linspace(1, 0, c.horizon), flow_times(c.num_steps), 10.0)
        rtc = Guided(target, *map(torch.from_numpy, tables))
    elif case.rtc == "trained":
        given = torch.arange(c.horizon)[:, None] < 9
        rtc = Trained(target, given, model.time_rows(np.zeros(1))[0])
    return images, prompt, state, noise, model.layout(valid), model.time_table(), rtc


@torch.inference_mode()
def actions(model: Pi0, case: Case) -> Tensor:
    return model(*arguments(model, case))


BACKENDS = {
    "reference": Reference(),
    "onednn": OneDnn(),
    "ascend fia": Ascend("fia"),
    "ascend pfa": Ascend("pfa"),
    "ascend broadcast": Ascend("fia", rotary="broadcast", padded_masks=True),
    "ascend pfa broadcast": Ascend("pfa", rotary="broadcast", padded_masks=True),
}
# (largest difference, cosine) of actions of root mean square 1.3.
GATES = {F32: (2e-5, 0.9999999), BF16: (0.08, 0.9999)}
# Sharp attention turns bfloat16's rounding into more than its gate; Ascend's kernels are slow here.
SOFT = [case for case in CASES if "peaked" not in case]
RUNS = [
    *((name, F32, case) for name in BACKENDS if name != "reference" for case in CASES),
    *((name, BF16, case) for name in ("reference", "onednn") for case in SOFT),
    *(
        (name, BF16, case)
        for name in ("ascend fia", "ascend pfa")
        for case in ("padded prompt", "pi0.5", "given actions", "pi0.5, given actions")
    ),
]


@pytest.mark.parametrize("backend,dtype,case", RUNS)
def test_every_backend_computes_what_the_reference_does(
    backend: str, dtype: torch.dtype, case: str
) -> None:
    """In float32; and in bfloat16 what the reference does in float32 with the same weights."""
    if backend == "onednn" and not onednn.supported(dtype):
        pytest.skip(f"this CPU has no oneDNN kernels for {dtype}")
    of = CASES[case]
    reference = random_model(of.config, Reference(), dtype, of.peak)
    expected = actions(reference.to(F32), of)
    model = random_model(of.config, BACKENDS[backend], dtype, of.peak)
    got = actions(model, of)
    most, cosine = GATES[dtype]
    assert (got - expected).abs().max() <= most
    # In double: float32 rounds a cosine by more than is allowed here.
    flat = (t.double().flatten() for t in (got, expected))
    assert torch.cosine_similarity(*flat, dim=0) >= cosine
    assert expected.square().mean() > 0.5
    assert torch.equal(actions(model, of), got), "an inference changed the model"


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_operator_changes_an_argument(backend: str) -> None:
    """Held by writing a tensor's version counter, which every change in place raises."""
    ops = BACKENDS[backend]
    if backend == "onednn" and not onednn.supported(F32):
        pytest.skip("this CPU has no oneDNN kernels for float32")
    model = random_model(SMALL, ops, F32)
    c, layer = SMALL, model.expert.layers[0]
    x, h = torch.randn(1, 5, c.expert_width), torch.randn(1, 5, c.expert_width)
    heads = torch.randn(1, 5, c.heads * c.head_dim)
    rope = ops.rope_tables(torch.arange(5)[None], c, F32)
    mask = ops.attention_mask(torch.eye(5, 10, dtype=torch.bool)[None, None], c.heads, F32)
    q, kv = ops.qkv(x, layer.qkv, c.heads, c.kv_heads, rope)
    gain = ops.gain(torch.rand(c.expert_width))
    bias, hidden = torch.randn(layer.qkv(x).shape[-1]), torch.randn(2 * c.expert_mlp)
    given = [x, h, heads, mask, q, gain, bias, hidden, *rope, *kv]
    before = [(t.clone(), t._version) for t in given]
    ops.qkv(x, layer.qkv, c.heads, c.kv_heads, rope)
    ops.qkv(x, layer.qkv, c.heads, c.kv_heads)
    ops.attention(q, kv, mask, 0.2, past=kv)
    ops.rms_norm(x, layer.mlp_norm)
    ops.linear_add_rms_norm(heads, layer.out, h, layer.mlp_norm)
    ops.linear_add_rms_norm(heads, layer.out, h, gain, gate=x[0, 0])
    ops.linear(x, layer.gate_up)
    ops.qkv(x, layer.qkv, c.heads, c.kv_heads, bias=bias)
    ops.geglu(x, layer.gate_up, hidden)
    ops.linear_add(heads, layer.out, h)
    ops.linear_gelu(x, layer.qkv)
    ops.geglu(x, layer.gate_up)
    for tensor, (value, version) in zip(given, before, strict=True):
        assert torch.equal(tensor, value)
        assert tensor._version == version


def test_a_backend_is_chosen_by_device_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, npu = torch.device("cpu"), torch.device("npu", 0) if hasattr(torch, "npu") else None
    monkeypatch.setattr(onednn, "supported", lambda dtype: dtype == F32)
    assert isinstance(select(cpu, F32), OneDnn)
    assert isinstance(select(cpu, BF16), Reference)
    assert isinstance(select(cpu, F32, "inductor"), Reference)
    npu = npu or type("Device", (), {"type": "npu"})()
    assert select(npu, BF16, "torchair") == Ascend("fia", dense_views=True)
    assert select(npu, BF16, "npugraph_ex", attention="pfa") == Ascend("pfa")
    assert select(npu, BF16, weights_nz=True) == Ascend("fia", weights_nz=True)
    assert select(npu, BF16, rotary="broadcast", padded_masks=True) == Ascend(
        "fia", rotary="broadcast", padded_masks=True
    )
    with pytest.raises(ValueError, match="rotary must be one of per-head, broadcast, got 'no'"):
        select(npu, BF16, rotary="no")
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(cuda.util, "find_spec", lambda name: name == "triton" or None)
    assert select(gpu, BF16, "cudagraph").candidates == cuda.KERNELS
    assert select(gpu, BF16, "inductor_cudagraph").candidates == ("attention",)
    assert select(gpu, BF16, kernels="none").choice == "none"
    monkeypatch.setattr(cuda.util, "find_spec", lambda name: None)
    assert type(select(gpu, BF16, "cudagraph")) is Reference, "Triton is not everywhere"
    with pytest.raises(ValueError, match="must be one of fia, pfa, got 'sdpa'"):
        select(npu, BF16, attention="sdpa")


# ---- what `prepare` makes of a model -------------------------------------------------------------


def test_onednn_holds_the_experts_weights_once() -> None:
    if not onednn.supported(F32):
        pytest.skip("this CPU has no oneDNN kernels for float32")
    model = random_model(SMALL, OneDnn(), F32)
    products = {n: m for n, m in model.named_modules() if isinstance(m, Linear | Rows)}
    assert [name for name, m in products.items() if isinstance(m, Linear)] == ["time_in"]
    del products["time_in"]
    assert len(products["expert.layers.0.gate_up"].rows) == 2
    for name, module in products.items():
        assert not hasattr(module, "weight")
        assert all(rows.is_mkldnn == name.startswith("expert.") for rows in module.rows), name


def test_ascend_pads_the_heads_of_the_vision_tower() -> None:
    config = replace(SMALL, vision_width=48, depth=2)
    old = random_model(config, Reference(), F32).vision.layers[0]
    new = random_model(config, Ascend(), F32).vision.layers[0]
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    expected = old.qkv(x).view(3, 3, 4, 12)
    got = new.qkv(x).view(3, 3, 4, 16)
    torch.testing.assert_close(got[..., :12], expected)
    assert not got[..., 12:].any()
    values = torch.nn.functional.pad(expected[:, 2], (0, 4)).flatten(1)
    torch.testing.assert_close(new.out(values), old.out(expected[:, 2].flatten(1)))
    assert all(isinstance(p, nn.Parameter) and not p.requires_grad for p in new.parameters())


def test_ascend_wants_gains_and_tables_in_the_dtype_of_the_activations() -> None:
    model = random_model(SMALL, Ascend(), BF16)
    norms = [p for n, p in model.named_parameters() if n.endswith("norm") and "vision" not in n]
    assert norms and {p.dtype for p in norms} == {BF16}
    layout = model.layout(torch.ones(1, 20, dtype=torch.bool))
    assert {t.dtype for t in (*layout.prefix_rope, *layout.suffix_rope)} == {BF16}


def test_ascend_lays_out_large_weights_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cast: list[tuple[list[int], int]] = []

    def npu_format_cast(tensor: Tensor, layout: int) -> Tensor:
        cast.append((list(tensor.shape), layout))
        return tensor.clone()

    monkeypatch.setattr(OPERATORS, "npu_format_cast", npu_format_cast, raising=False)
    model = random_model(replace(SMALL, depth=2, vision_depth=1), Ascend(weights_nz=True), F32)
    assert [layout for _, layout in cast] == [29, 29, 29]
    assert [SMALL.prefix_mlp, SMALL.prefix_width] in [shape for shape, _ in cast]
    assert isinstance(model.prefix.layers[0].down.weight, nn.Parameter)


LIMITS = {
    "attention in float32": (SMALL, F32, "float16 or bfloat16, got torch.float32"),
    "a head_dim beyond 512": (replace(SMALL, head_dim=528), BF16, "at most 512"),
    "a head_dim of 40": (replace(SMALL, head_dim=40), BF16, "multiple of 16, got 40"),
    "heads per key head": (replace(SMALL, heads=65), BF16, "64 of them per key head"),
    "heads": (replace(SMALL, heads=257, kv_heads=257), BF16, "at most 256 heads"),
    "a wide row": (replace(SMALL, heads=256, kv_heads=256, head_dim=256), BF16, "< 65535"),
    "heads of the vision tower": (
        replace(SMALL, vision_width=1028, vision_heads=257),
        BF16,
        "the vision tower: at most 256",
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_ascend_refuses_what_its_kernels_do_not_compute(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(ascend, "DTYPES", (F16, BF16))
    config, dtype, message = LIMITS[limit]
    with pytest.raises(ValueError, match=message):
        ascend.check_limits(config, dtype)
    ascend.check_limits(Pi0Config(), BF16)
