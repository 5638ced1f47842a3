"""The Triton kernels against the reference, on CPU tensors in Triton's interpreter.

The interpreter cuts bfloat16 off instead of rounding it, and multiplies its bits in tl.dot: so
attention is tried in float32 and float16. What the compiler makes of the kernels is asked of a
process without the interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import util

import pytest
import torch
from support import ROOT
from torch import Tensor

from pi0_ros.model.config import TINY, TINY_PI05, Pi0Config
from pi0_ros.model.ops import cuda
from pi0_ros.model.ops.cuda import KERNELS, Cuda, trial
from pi0_ros.model.ops.reference import EPS, Reference
from pi0_ros.model.pi0 import Pi0

if util.find_spec("triton") is None:
    pytest.skip("Triton has wheels for Linux only", allow_module_level=True)

from pi0_ros.model.ops import triton_attention
from pi0_ros.model.ops.triton_attention import attention
from pi0_ros.model.ops.triton_kernels import add_rms_norm, geglu, split_rope

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
CPU = torch.device("cpu")
# Of the largest value. bfloat16 is cut off here: a unit in the last place, not half of one.
WITHIN = {F32: 2e-6, F16: 2e-3, BF16: 0.01}
REAL, REAL_PI05 = Pi0Config(), Pi0Config(variant="pi05", prompt_length=200)


def draw(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert got.shape == expected.shape and got.dtype == dtype
    difference = (got.float() - expected.float()).abs().max()
    assert difference <= WITHIN[dtype] * expected.float().abs().max()


def cuda_with(*kernels: str) -> Cuda:
    ops = Cuda()
    ops.kernels = frozenset(kernels)
    return ops


# ---- each kernel ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel,part,dtype,config",
    [
        ("attention", "suffix", F16, REAL),
        ("add_rms_norm", "suffix", BF16, REAL),
        ("add_rms_norm", "prefix", F32, REAL),
        ("split_rope", "suffix", BF16, REAL),
        ("geglu", "suffix", BF16, REAL),
        *(
            pytest.param(kernel, part, dtype, config, marks=pytest.mark.slow)
            for kernel in KERNELS
            for part in ("suffix", "prefix")
            for dtype in (F32, F16)
            for config in (REAL, REAL_PI05)
        ),
    ],
)
def test_the_shapes_of_the_published_models(
    kernel: str, part: str, dtype: torch.dtype, config: Pi0Config
) -> None:
    """51 or 50 tokens after a prefix of 560 or 712, of which half of the prompt is masked out."""
    got = trial(kernel, part, config, dtype, CPU, cuda_with(kernel))()
    expected = trial(kernel, part, config, dtype, CPU, Reference())()
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("batch,tokens,width", [(1, 1, 1), (2, 3, 100), (1, 5, 1025)])
@pytest.mark.parametrize("gated", [False, True])
def test_add_rms_norm_of_odd_sizes(batch: int, tokens: int, width: int, gated: bool) -> None:
    y, residual = (3 * draw(batch, tokens, width, seed=s) for s in (0, 1))
    gain, gate = 1 + draw(width, seed=2), draw(width, seed=3) if gated else None
    normed, total = add_rms_norm(y, residual, gain, gate, EPS)
    expected = residual + (y if gate is None else gate * y)
    assert_close(total, expected, F32)
    assert_close(normed, Reference().rms_norm(expected, gain), F32)


@pytest.mark.parametrize("batch,tokens,heads,kv_heads,size", [(2, 3, 3, 1, 6), (1, 1, 0, 2, 32)])
def test_split_rope_of_odd_sizes(
    batch: int, tokens: int, heads: int, kv_heads: int, size: int
) -> None:
    qkv = draw(batch, tokens, (heads + 2 * kv_heads) * size)
    config = replace(TINY, head_dim=size)
    for positions in (torch.arange(5, 5 + tokens)[None], torch.randint(0, 700, (batch, tokens))):
        rope = Reference().rope_tables(positions, config, F32)
        q, k, v = split_rope(qkv, *rope, heads, kv_heads)
        linear = lambda x, bias=None: x  # noqa: E731
        expected, kv = Reference().qkv(qkv, linear, heads, kv_heads, rope)
        if heads:
            assert_close(q, expected, F32)
        assert_close(k, kv[0], F32)
        assert torch.equal(v, kv[1])


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 3, 66), (1, 2, 2050)])
def test_geglu_of_odd_sizes(shape: tuple[int, ...]) -> None:
    x = 4 * draw(*shape)
    gate, up = x.chunk(2, dim=-1)
    expected = torch.nn.functional.gelu(gate, approximate="tanh") * up
    assert_close(geglu(x), expected, F32)


def masked(queries: int, past: int, own: int, hide: str, batch: int = 1) -> Tensor | None:
    """bool [batch, 1, queries, past + own], as `Pi0.layout` makes them."""
    if hide == "nothing":
        return None
    mask = torch.zeros(batch, 1, queries, past + own, dtype=torch.bool)
    keys = past or own
    if "camera" in hide:
        mask[..., : keys // 2] = True
    if "prompt" in hide:
        mask[-1, ..., keys - keys // 4 : keys] = True
    if "state" in hide:  # the state token does not attend to the actions
        mask[:, :, 0, past + 1 :] = True
    return mask


@pytest.mark.parametrize("chunks", ["whole", "split"])
@pytest.mark.parametrize(
    "queries,past,heads,kv_heads,size,hide,batch",
    [
        (1, 0, 2, 1, 16, "nothing", 1),
        (37, 0, 3, 1, 16, "prompt", 1),
        (5, 130, 4, 2, 16, "state and prompt", 2),
        (9, 70, 8, 1, 32, "camera, state", 1),
        (3, 1, 6, 3, 64, "nothing", 2),
        (40, 0, 2, 1, 16, "camera and prompt", 2),
    ],
)
def test_attention_of_odd_sizes(
    monkeypatch: pytest.MonkeyPatch,
    chunks: str,
    queries: int,
    past: int,
    heads: int,
    kv_heads: int,
    size: int,
    hide: str,
    batch: int,
) -> None:
    """Whole rows, and keys in chunks of which some are masked out as a whole."""
    monkeypatch.setattr(triton_attention, "_gpu", lambda i: (1 if chunks == "whole" else 999, 0))
    q = 3 * draw(batch, queries, heads, size)
    kv, earlier = (
        tuple(draw(batch, n, kv_heads, size, seed=s) for s in seeds)
        for n, seeds in ((queries, (1, 2)), (past, (3, 4)))
    )
    ops, reference = cuda_with("attention"), Reference()
    mask, group = masked(queries, past, queries, hide, batch), heads // kv_heads
    made = [None if mask is None else o.attention_mask(mask, group, F32) for o in (ops, reference)]
    before = earlier if past else None
    got = attention(q, *kv, *(before or (None, None)), made[0], 0.3)
    assert_close(got, reference.attention(q, kv, made[1], 0.3, before), F32)


@pytest.mark.parametrize("peak", [1e-3, 50.0, 1e4])
def test_scores_of_any_size(peak: float) -> None:
    q, k, v = peak * draw(1, 20, 4, 16), draw(1, 20, 1, 16, seed=1), draw(1, 20, 1, 16, seed=2)
    got = attention(q, k, v, None, None, None, 1.0)
    expected = Reference().attention(q.double(), (k.double(), v.double()), None, 1.0).float()
    assert (got - expected).abs().max() <= 1e-6 * max(1.0, peak) * v.abs().max()


# ---- a whole model -------------------------------------------------------------------------------

SMALL = {"image_size": 32, "depth": 2, "vision_depth": 1, "num_steps": 1, "horizon": 6}


@pytest.mark.parametrize("variant", ["pi0", "pi05"])
@pytest.mark.parametrize(
    "valid", ["all", "a masked camera, a padded prompt", "a batch of two, one prompt padded"]
)
def test_a_model_computes_what_it_does_with_the_reference(variant: str, valid: str) -> None:
    c = replace(TINY if variant == "pi0" else TINY_PI05, **SMALL)
    batch = 2 if "two" in valid else 1
    exists = torch.ones(batch, 2 * c.tokens_per_image + 7, dtype=torch.bool)
    if "camera" in valid:
        exists[:, c.tokens_per_image : 2 * c.tokens_per_image] = False
    if "padded" in valid:
        exists[-1, -3:] = False
    images = draw(batch, 2, 3, c.image_size, c.image_size).clamp(-1, 1)
    noise, state = draw(batch, c.horizon, c.max_action_dim), draw(batch, c.max_state_dim, seed=1)
    actions = []
    for ops in (cuda_with(*KERNELS), Reference()):
        model = Pi0(c, ops).requires_grad_(False)
        g = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            std = parameter.shape[0] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.normal_(0.0, std, generator=g)
        prompt = model.embed_prompt(torch.arange(3, 10).expand(batch, -1))
        layout = model.layout(exists)
        actions.append(model(images, prompt, state, noise, layout, model.time_table()))
    torch.testing.assert_close(*actions, rtol=0, atol=2e-5)
    assert (actions[0] - noise).abs().max() > 0.05


# ---- which are used ------------------------------------------------------------------------------


def prepared(monkeypatch: pytest.MonkeyPatch, choice: str, **spent: float) -> frozenset[str]:
    """Kernels in use where a call with some kernels takes so long, and one without takes 1 s."""
    monkeypatch.setattr(cuda, "trial", lambda name, part, c, dtype, device, ops: Call(name, ops))

    class Call:
        def __init__(self, name: str, ops: Reference) -> None:
            self.name, self.own = name, isinstance(ops, Cuda)

        def __call__(self) -> tuple[Tensor]:
            if self.own and spent[self.name] < 0:
                raise RuntimeError("out of resource: shared memory")
            wrong = self.own and spent[self.name] == 0
            return (torch.full((3,), 2.0 if wrong else 1.0),)

    monkeypatch.setattr(cuda, "seconds", lambda call, _: spent[call.name] if call.own else 1.0)
    ops = Cuda(choice)
    Pi0(TINY, ops)
    ops.prepare(Pi0(TINY, ops))
    return ops.kernels


def test_kernels_that_win_are_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spent = {"attention": 0.5, "add_rms_norm": 1.5, "split_rope": 0.0, "geglu": -1.0}
    assert prepared(monkeypatch, "auto", **spent) == {"attention"}
    assert "split_rope is not used: it differs from the reference" in caplog.text
    assert "geglu cannot be used on cpu: out of resource" in caplog.text
    assert prepared(monkeypatch, "triton", **spent) == {"attention", "add_rms_norm"}
    assert prepared(monkeypatch, "none", **spent) == frozenset()


def test_heads_that_are_no_power_of_two_keep_torchs_attention() -> None:
    ops = Cuda("triton")
    ops.prepare(Pi0(replace(TINY, **SMALL, head_dim=24), ops))
    assert ops.kernels == {"add_rms_norm", "split_rope", "geglu"}


# ---- what compilers make of them -----------------------------------------------------------------


def offline(*arguments: str) -> dict:
    """What `support.triton_offline` found, in a process without the interpreter."""
    command = [sys.executable, "-m", "support.triton_offline", *arguments]
    env = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# Architecture -> bytes of shared memory that a program may have.
GPUS = {80: 166_912, 87: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


@pytest.mark.compile
@pytest.mark.parametrize(
    "gpu", [pytest.param(gpu, marks=[] if gpu == 90 else pytest.mark.slow) for gpu in GPUS]
)
def test_the_kernels_compile_for_gpus_and_fit_their_shared_memory(gpu: int) -> None:
    """By ptxas, which Triton's wheel brings, for A100, Orin, 4090, H100, B200 and 5090."""
    shared = offline("compile", str(gpu), str(GPUS[gpu]))
    assert set(shared) >= {"attention", "attention split", "merge", "add_rms_norm"}
    assert max(shared.values()) <= GPUS[gpu]


@pytest.mark.compile
@pytest.mark.parametrize("variant", ["pi0", pytest.param("pi05", marks=pytest.mark.slow)])
def test_a_frame_with_the_kernels_traces_as_one_graph(variant: str) -> None:
    """On fake tensors, on CUDA where torch has it, at full width; fullgraph raises at a break."""
    depth, steps = 2, 2
    calls = offline("trace", variant, str(depth), str(steps))
    layers = depth - 1 + depth * steps
    assert calls["attention"] == layers
    assert calls["split_rope"] == layers + 1, "and the last prefix layer's keys"
    assert calls["geglu"] == layers
    assert calls["add_rms_norm"] == 2 * layers
