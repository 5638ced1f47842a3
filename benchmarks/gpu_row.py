"""One row of `benchmarks.gpu`, in a process of its own: `python -m benchmarks.gpu_row JOB`.

JOB is a JSON object; the row is written to its `out`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.race import case as race_case
from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import cuda, select
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.quantised import Calibration, observed
from pi0_ros.policy import compile as compiling
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.device import Transfer, check_precision, chip_name, resolve_device
from pi0_ros.policy.graphs import Eager, Graphs
from pi0_ros.policy.preprocess import fit_image, fit_pixels

GRAPHS = {  # row -> graph, kernels
    "float32": ("eager", "none"),
    "eager": ("eager", "none"),
    "captured": ("cudagraph", "none"),
    "kernels": ("cudagraph", "auto"),
    "all kernels": ("cudagraph", "triton"),
    "inductor": ("inductor_cudagraph", "none"),
    "inductor + attention": ("inductor_cudagraph", "triton"),
    "float8": ("inductor_cudagraph", "triton"),
}


class Case:
    """A setting: sizes, device, and the inputs, which are the same in every process."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        sizes = race_case.TINY if job["tiny"] else Pi0Config()
        sizes = replace(sizes, vocab_size=512, variant=job["variant"])
        self.config = replace(sizes, prompt_length=200) if job["variant"] == "pi05" else sizes
        self.device = resolve_device(job["device"])
        self.on_card = self.device.type != "cpu"
        c, g = self.config, torch.Generator().manual_seed(1)
        shape = (1, job["cameras"], 3, c.image_size, c.image_size)
        self.images = (torch.rand(shape, generator=g) * 2 - 1).to(self.device)
        self.tokens = torch.randint(3, c.vocab_size, (1, job["prompt"]), generator=g)
        self.state = torch.randn(1, c.max_state_dim, generator=g).numpy()
        self.noise = torch.randn(1, c.horizon, c.max_action_dim, generator=g).numpy()

    def model(self, dtype: torch.dtype, ops: Reference) -> Pi0:
        """Random weights, drawn on the device and rounded to bfloat16 whatever the dtype."""
        with torch.device("meta"):
            model = Pi0(self.config, ops)
        g = torch.Generator(self.device).manual_seed(0)
        for name, parameter in list(model.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            is_gain = "norm" in name and leaf != "bias" and not name.startswith("time_in.")
            if is_gain or leaf == "bias":
                value = torch.full(parameter.shape, float(is_gain), device=self.device)
            else:
                value = torch.randn(parameter.shape, generator=g, device=self.device)
                value = (value * parameter.shape[0] ** -0.5).bfloat16()
            float32 = name.startswith("time_in.") and self.config.pi05
            float32 |= is_gain and not name.startswith("vision.")
            value = value.to(torch.float32 if float32 else dtype)
            setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
        return model.eval()

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)


def frames(case: Case, row: str) -> dict[str, Any]:
    """A row of our own frames."""
    graph, kernels = GRAPHS[row]
    if not case.on_card:  # the program is tested, not the compiler
        if graph == "inductor_cudagraph":
            compiling.torch.compile = lambda function, **_: function
        graph = "eager"
    dtype = torch.float32 if row == "float32" else torch.bfloat16
    ops = select(case.device, dtype, graph, kernels=kernels) if case.on_card else Reference()
    if row == "float8":
        if case.on_card:
            check_precision(case.device, dtype, row)
        ops.precision, ops.calibration = row, calibrate(case, dtype)
    model = case.model(dtype, ops)
    case.wait()
    begin = time.perf_counter()
    ops.prepare(model)
    table = model.time_table()
    del model.time_in
    graphs = Graphs(model, GraphOptions(graph, kernels=kernels), table, "benchmark")
    transfer = graphs.transfer
    prompt = graphs.prompt(case.tokens, case.job["cameras"])

    def infer() -> Tensor:
        state, noise = transfer.upload(case.state), transfer.upload(case.noise)
        return graphs.infer(case.images, prompt, state, noise)

    actions = infer()
    found: dict[str, Any] = {"ready_s": time.perf_counter() - begin}
    if graph != "eager":
        found["captured"] = not graphs.falls_back
    found |= spread(infer, case.job["frames"] if row != "float32" else 20)
    found |= likeness(actions, case.job["expected"], writes=row == "float32")
    if case.on_card:
        found["memory_gb"] = torch.cuda.max_memory_allocated(case.device) / 1e9
        found["in_use"] = " ".join(sorted(getattr(ops, "kernels", ()))) or "torch's kernels"
        keep(case, found)
        add(case, found, "kernels_per_frame", lambda: launches(infer))
        if graph == "cudagraph":
            add(case, found, "stages_ms", lambda: stages(case, model, graphs))
        if row == "all kernels":
            add(case, found, "kernels_ms", lambda: kernel_times(case))
    return found


def calibrate(case: Case, dtype: torch.dtype) -> Calibration:
    """Scales of the one input that is measured."""
    ops = Reference()
    graphs = Graphs(case.model(dtype, ops), GraphOptions("eager"), torch.empty(0), "")
    embedded, layout = graphs.prompt(case.tokens, case.job["cameras"])
    state = torch.from_numpy(case.state).to(case.device)
    with observed(graphs.model) as calibration:
        graphs.model.context(case.images, embedded, state, layout)
        return calibration()


def keep(case: Case, found: dict[str, Any]) -> None:
    """Write what is known of the row by now."""
    Path(case.job["out"]).write_text(json.dumps(found))


def add(case: Case, found: dict[str, Any], key: str, measure: Callable[[], Any]) -> None:
    """One more figure, whose failure costs no other; a profiler may be missing, for one."""
    try:
        found[key] = measure()
    except Exception as error:
        found[f"{key}_failed"] = f"{type(error).__name__}: {error}"[:300]
    keep(case, found)


def spread(call: Callable[[], Any], times: int) -> dict[str, float]:
    """Milliseconds of calls that end when their result is on the host."""
    for _ in range(min(10, times)):
        call()
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spent.append((time.perf_counter() - begin) * 1e3)
    spent.sort()
    p99 = spent[min(len(spent) - 1, int(0.99 * len(spent)))]
    return {"p50_ms": statistics.median(spent), "p99_ms": p99, "least_ms": spent[0]}


def likeness(actions: Tensor, file: str, writes: bool) -> dict[str, float]:
    """Against float32, operator by operator, with the same weights, noise and inputs."""
    if writes:
        torch.save(actions, file)
    if not Path(file).is_file():
        return {}
    expected = torch.load(file, weights_only=True).double()
    cosine = torch.cosine_similarity(actions.double().flatten(), expected.flatten(), dim=0)
    return {
        "cosine": float(cosine),
        "largest_difference": float((actions.double() - expected).abs().max()),
    }


def launches(call: Callable[[], Any]) -> int:
    """Kernels and copies on the card in one call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        call()
    return sum(e.count for e in profiled.key_averages() if e.device_type.name == "CUDA")


def stages(case: Case, model: Pi0, graphs: Graphs) -> dict[str, float]:
    """Of vision, of the context with vision, and of all steps, each captured by itself."""
    prompt = graphs.prompt(case.tokens, case.job["cameras"])
    assert not isinstance(prompt, Eager)
    embedded, layout = prompt.unpacked(model, case.job["cameras"])
    state = torch.from_numpy(case.state).to(case.device)
    noise = torch.from_numpy(case.noise).to(case.device)
    context = model.context(case.images, embedded, state, layout)
    calls = {
        "vision": lambda: model.vision(case.images.flatten(0, 1)),
        "context": lambda: model.context(case.images, embedded, state, layout),
        "one step": lambda: model.denoise_step(noise, graphs.time_table[0], context, layout),
    }
    return {name: 1e3 * cuda.seconds(call, case.device, 5) for name, call in calls.items()}


def kernel_times(case: Case) -> dict[str, float]:
    """Milliseconds of a frame in each of our kernels, and in torch's operators in its place."""
    found = {}
    for name in cuda.KERNELS:
        both = cuda.spent(name, case.config, torch.bfloat16, case.device)
        found |= {
            f"{name} {whose}": 1e3 * s for whose, s in zip(("own", "torch"), both, strict=True)
        }
    return found


def limits(case: Case) -> dict[str, Any]:
    """The card's own rates, and what they allow: arithmetic, or reading of weights if longer."""
    n, size = (8192, 1 << 30) if case.on_card else (128, 1 << 20)
    a, b = (torch.randn(n, n, device=case.device).bfloat16() for _ in range(2))
    x = torch.empty(size, dtype=torch.uint8, device=case.device)
    y = torch.empty_like(x)

    def least(call: Callable[[], Any]) -> float:
        def whole() -> None:
            call()
            case.wait()

        return spread(whole, 10)["least_ms"] / 1e3

    flops, read = 2 * n**3 / least(lambda: a @ b), 2 * size / least(lambda: y.copy_(x))
    products = list(race_case.products(case.config, case.job["cameras"], case.job["prompt"]))
    bound = {}
    for stage in ("vision", "prefix", "denoise"):
        of = [p for p in products if p.stage == stage]
        weights = 2 * sum(p.k * p.n * p.count for p in of if p.weight)
        bound[stage] = 1e3 * max(sum(p.flops for p in of) / flops, weights / read)
    machine = {"card": chip_name(case.device), "torch": torch.__version__}
    if case.on_card:
        machine["cuda"] = str(torch.version.cuda)
        machine["capability"] = ".".join(map(str, torch.cuda.get_device_capability(case.device)))
        machine["memory_gb"] = torch.cuda.mem_get_info(case.device)[1] / 1e9
    rates = {"tflop_per_s": flops / 1e12, "tb_per_s": read / 1e12}
    return machine | rates | {"bound_ms": bound | {"frame": sum(bound.values())}}


def images(case: Case) -> dict[str, Any]:
    """Two images to the model's input, both ways, with one wait at the end."""
    rule, size = ImageRule(antialias=True, centred=True), case.config.image_size
    taken = [np.random.default_rng(i).integers(0, 256, (480, 640, 3), np.uint8) for i in (0, 1)]
    transfer = Transfer(case.device)

    def host() -> Tensor:
        fitted = torch.stack([fit_image(image, size, rule) for image in taken])
        return transfer.upload(fitted.numpy())

    def device() -> Tensor:
        return torch.stack([fit_pixels(transfer.upload(image), size, rule) for image in taken])

    steps = float((host() - device()).abs().max()) * 127.5
    found: dict[str, Any] = {"largest_difference_in_255": steps}
    for name, call in (("host_ms", host), ("card_ms", device)):
        found[name] = spread(lambda call=call: (call(), case.wait()), 50)["p50_ms"]
    return found


def lerobot(case: Case, compiled: bool) -> dict[str, Any]:
    """LeRobot's pi0, random weights, its own preprocessing of images left out."""
    from benchmarks.race import peer

    sizes = SimpleNamespace(**vars(case.config))
    cameras = case.job["cameras"]
    job = {"peer": "0.4.4", "cameras": cameras, "dtype": "bfloat16", "steps": sizes.num_steps}
    peer.bench_peer_gemma.apply()
    peer.bench_peer_stubs.install()
    with peer.no_init_weights():
        model = peer._build_new(job, sizes).model.eval().to(case.device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, parameter.shape[0] ** -0.5 if parameter.dim() > 1 else 0.02)
    images = list(case.images.unbind(1))
    masks = [torch.ones(1, dtype=torch.bool, device=case.device)] * cameras
    tokens = torch.zeros(1, sizes.prompt_length, dtype=torch.int64, device=case.device)
    tokens[:, : case.tokens.shape[1]] = case.tokens[:, : sizes.prompt_length]
    valid = torch.arange(sizes.prompt_length, device=case.device)[None] < case.job["prompt"]
    state, noise = (torch.from_numpy(x).to(case.device) for x in (case.state, case.noise))
    sample = model.sample_actions
    if compiled:  # as its __init__ does for compile_model
        torch.set_float32_matmul_precision("high")
        if case.on_card:
            sample = torch.compile(sample, mode="max-autotune")

    def infer() -> Tensor:
        with torch.no_grad():
            return sample(images, masks, tokens, valid, state, noise=noise.clone()).cpu()

    begin = time.perf_counter()
    infer()
    found: dict[str, Any] = {"ready_s": time.perf_counter() - begin}
    found |= spread(infer, min(50, case.job["frames"]))
    if case.on_card:
        found["memory_gb"] = torch.cuda.max_memory_allocated(case.device) / 1e9
        keep(case, found)
        add(case, found, "kernels_per_frame", lambda: launches(infer))
    return found


def main() -> None:
    job = json.loads(sys.argv[1])
    row = job["row"]
    case = Case(job)
    if row.startswith("LeRobot"):
        found = lerobot(case, row == "LeRobot compiled")
    else:
        with torch.inference_mode():
            others = {"limits": limits, "images": images}
            found = others[row](case) if row in others else frames(case, row)
    keep(case, found)


if __name__ == "__main__":
    main()
