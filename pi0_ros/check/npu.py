"""Rows of a check on an Ascend NPU. Nothing here has run on one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from pi0_ros.check.facts import describe_host
from pi0_ros.check.kernels import TOLERANCE, compare, kernel_rows
from pi0_ros.check.runner import Result, Row
from pi0_ros.check.speed import Way, speed_rows
from pi0_ros.check.subject import Subject
from pi0_ros.check.whole import LEAST_OF_EIGHT_BITS, whole_rows
from pi0_ros.model.ops import select
from pi0_ros.model.ops.ascend import ATTENTION_KERNELS, ROTARY_FORMS
from pi0_ros.policy import cann
from pi0_ros.policy.compile import GraphOptions

NOTE = {"computing_ms": 71.6, "free_ms": 4.58, "busy_share": 0.94, "ai_core_share": 0.5}
"""What the published note of pi0 on Atlas A2 measured, per inference."""

LOWERED = {"pi0": 2384, "pi05": 3111}
"""Kernel nodes that a frame with fused infer attention lowers to, at the published size with ten
steps; see docs/ascend.md."""


def describe(device: torch.device) -> dict[str, str]:
    """Versions, card and memory."""
    free, total = torch.npu.mem_get_info(device)
    return {
        **describe_host(device),
        "CANN": cann.short_version() or "version not found",
        "driver": _driver(),
        "device memory": f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free",
        **{name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)},
    }


def rows(subject: Subject) -> Iterator[Row]:
    """The forms that Huawei's documents are unclear about first, then as on any device."""
    sound: dict[str, list[str]] = {"rotary": [], "attention": []}
    for form in ROTARY_FORMS:
        yield Row("kernels", f"RotaryMul {form}", _noting(sound["rotary"], form, subject), 5)
    yield Row("kernels", "RotaryMul to use", lambda left: _to_use(sound["rotary"]))
    rotary = sound["rotary"][0] if sound["rotary"] else ROTARY_FORMS[0]
    operators = partial(select, subject.device, subject.dtype, rotary=rotary)
    for attention in ATTENTION_KERNELS:
        yield from kernel_rows(subject, operators(attention=attention), f", {attention}")
    for row in kernel_rows(subject, operators(padded_masks=True), ", fia, padded masks"):
        if "attention" in row.name and "vision" not in row.name:
            yield row
    options = GraphOptions("eager", rotary=rotary)
    yield from whole_rows(subject, options)
    yield from whole_rows(subject, replace(options, precision="int8"))
    yield from speed_rows(subject, ways(rotary), beside_the_note)


def ways(rotary: str) -> list[Way]:
    """What there is to choose from, the likeliest best first."""
    made = [_way("eager", "two-graph", "fia", False, rotary, profile=0)]
    for graph, form, attention, nz in product(
        ("torchair", "npugraph_ex"), ("frame", "two-graph"), ATTENTION_KERNELS, (False, True)
    ):
        best = (graph, form, attention, nz) == ("torchair", "frame", "fia", False)
        made.append(_way(graph, form, attention, nz, rotary, profile=5 if best else 0))
        if best:
            int8 = {**made[-1].options, "precision": "int8"}
            made.append(
                Way("torchair frame fia nd int8", int8, 60, least_cosine=LEAST_OF_EIGHT_BITS)
            )
    return sorted(made, key=lambda way: (way.options["graph"] != "eager", not way.profile))


def _way(graph: str, form: str, attention: str, nz: bool, rotary: str, profile: int) -> Way:
    options = {"graph": graph, "form": form, "attention": attention, "weights_nz": nz}
    name = " ".join((graph, form, attention, "nz" if nz else "nd"))
    return Way(name, {**options, "rotary": rotary}, seconds=60, profile=profile)


def beside_the_note(subject: Subject, profile: dict) -> str:
    """A profile's mean inference beside what was published and what was lowered."""
    step, cores = profile["per_step"], profile["core_share"]
    parts = []
    for name, key in (("computing", "computing_ms"), ("idle", "free_ms")):
        if step[key] is not None:
            parts.append(f"{name} {step[key]:.2f} ms (note: {NOTE[key]})")
    if step["busy_share"] is not None:
        parts.append(f"busy {step['busy_share']:.0%} (note: {NOTE['busy_share']:.0%})")
    share = cores.get("AI_CORE", 0.0)
    parts.append(f"AI_CORE {share:.0%} (note: {NOTE['ai_core_share']:.0%})")
    lowered = LOWERED[subject.config.variant]
    full = subject.size == "full" or subject.checkpoint is not None
    parts.append(f"{step['kernels']:.0f} kernels" + (f" (lowered: {lowered})" if full else ""))
    return "profile: " + ", ".join(parts)


def rotary_mul(subject: Subject, form: str) -> tuple[Tensor, Tensor]:
    """What the kernel makes of queries and keys of the prefix, and what it should."""
    c = subject.config
    tokens, heads = subject.cameras * c.tokens_per_image + c.prompt_length, c.heads + c.kv_heads
    ops = select(subject.device, subject.dtype, rotary=form)
    positions = torch.arange(tokens)[None]
    generator = torch.Generator().manual_seed(0)
    values = c.kv_heads if form == "per-head" else 0
    x = torch.randn(1, tokens, heads + values, c.head_dim, generator=generator).to(subject.dtype)
    tables = [t.to(subject.device) for t in ops.rope_tables(positions, c, subject.dtype)]
    given = x.to(subject.device)
    if form == "per-head":
        given = given.flatten(1, 2)[:, :, None]
    got = torch.ops.npu.npu_rotary_mul(given, *tables, "half").cpu().float().view(x.shape)
    half = c.head_dim // 2
    angle = positions[..., None] * 10000.0 ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
    cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
    first, second = x.float()[:, :, :heads].split(half, dim=-1)
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return got, torch.cat((rotated, x.float()[:, :, heads:]), dim=2)


def _noting(sound: list[str], form: str, subject: Subject):
    def measure(left: float) -> Result:
        with torch.inference_mode():
            result = compare(*rotary_mul(subject, form), subject.dtype)
        if result.passed:
            sound.append(form)
        return result

    return measure


def _to_use(sound: list[str]) -> Result:
    if not sound:
        return Result(f"neither form is within {TOLERANCE[torch.bfloat16]}", passed=False)
    return Result(f"npu_rotary: {sound[0]}", {"npu_rotary": sound[0], "sound": sound}, True)


_VARIABLES = ("ASCEND_RT_", "TASK_QUEUE_", "CPU_AFFINITY", "PYTORCH_NPU_", "INF_NAN_MODE")


def _driver() -> str:
    """The first line of npu-smi that names a version."""
    program = shutil.which("npu-smi")
    if program is None:
        return "npu-smi is not installed"
    done = subprocess.run([program, "info"], capture_output=True, text=True, timeout=30)
    lines = (line.strip("| \n") for line in done.stdout.splitlines())
    return next((line for line in lines if "Version" in line), "npu-smi tells no version")
