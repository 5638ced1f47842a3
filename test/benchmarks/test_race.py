"""What the benchmark counts: operator calls, memory, arithmetic; and the command itself."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.race import __main__ as bench
from benchmarks.race import ours as bench_ours
from benchmarks.race.case import SIZES, Case, products, weight_bytes, write_case, write_inputs
from benchmarks.race.race import BenchError, Process, ours
from benchmarks.race.targets import TARGET_CALLS
from benchmarks.race.worker import Calls, count, measure
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.pi0 import Pi0


def job_of(size: str, tmp_path: Path, dtype: str = "bfloat16", **changes: Any) -> dict[str, Any]:
    case = Case(size, 2, changes.get("steps", 10), changes.get("prompt", 48), dtype, 1)
    inputs = tmp_path / "inputs.safetensors"
    write_inputs(inputs, case)
    return {
        "checkpoint": str(write_case(tmp_path, size, 2)),
        "inputs": str(inputs),
        "dtype": dtype,
        "steps": case.steps,
        "prompt": case.prompt,
        "cameras": 2,
        "threads": 1,
        "sizes": asdict(case.config),
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_operator_calls_of_an_inference(tmp_path: Path, dtype: str) -> None:
    """All of the published depth; widths do not matter to the number of calls."""
    full = SIZES["full"]
    tiny = SIZES["tiny"]
    assert (tiny.depth, tiny.vision_depth, tiny.num_steps) == (
        full.depth,
        full.vision_depth,
        full.num_steps,
    )
    contestant = bench_ours.load({**job_of("tiny", tmp_path, dtype), **ours().job})
    found = count(contestant)
    assert found["gemm"] < found["non_view"] < found["total"]
    assert found["non_view"] <= TARGET_CALLS
    depth, steps = full.depth, full.num_steps
    # Per layer: qkv, attention, out, gate, up, down; per step two more before and one after.
    denoise = steps * (6 * depth + 3)
    vision = 2 + 5 * full.vision_depth
    prefix = 6 * (depth - 1) + 1
    assert found["gemm"] == denoise + vision + prefix + 1  # the state's projection


def test_views_and_composites_are_told_apart() -> None:
    x = torch.ones(4, 6)
    with torch.no_grad(), Calls() as calls:
        (x.view(6, 4) @ torch.ones(4, 4)).t().unsqueeze(0)
        torch.nn.functional.rms_norm(x, (6,))
    found = calls.figures()
    assert found["gemm"] == 1
    assert found["total"] - found["non_view"] == 3
    assert found["non_view"] > 3, "what rms_norm is made of counts, not its name"


@pytest.mark.slow
def test_memory_of_the_medium_size(tmp_path: Path) -> None:
    """Weights that are needed are in memory once."""
    peaks, needed = {}, {}
    for size in ("tiny", "medium"):
        with Process(ours(), job_of(size, tmp_path, steps=2), 1) as process:
            peaks[size] = process.ask({"do": "infer"})["peak_bytes"]
        needed[size] = weight_bytes(SIZES[size], 2)
    assert needed["medium"] > 4e8
    # A tiny model takes what libraries take.
    grown = (peaks["medium"] - peaks["tiny"]) / (needed["medium"] - needed["tiny"])
    assert 0.8 < grown < 1.15


def test_stages_add_up(tmp_path: Path) -> None:
    contestant = bench_ours.load({**job_of("tiny", tmp_path), **ours().job})
    found = measure(contestant)
    assert set(found["stages"]) == {"vision", "prefix", "denoise", "rest"}
    assert all(seconds > 0 for seconds in found["stages"].values())
    assert sum(found["stages"].values()) == pytest.approx(found["cpu_s"])


@pytest.mark.parametrize(("cameras", "prompt"), [(1, 5), (2, 48)])
def test_the_bound_counts_the_arithmetic_of_the_model(cameras: int, prompt: int) -> None:
    config = replace(SIZES["tiny"], vision_depth=2, depth=3, num_steps=2)
    model = Pi0(config).eval().requires_grad_(False)
    tokens = torch.ones(1, prompt, dtype=torch.int64)
    valid = torch.ones(1, cameras * config.tokens_per_image + prompt, dtype=torch.bool)
    size = config.image_size
    arguments = (
        torch.zeros(1, cameras, 3, size, size),
        model.embed_prompt(tokens),
        torch.zeros(1, config.max_state_dim),
        torch.zeros(1, config.horizon, config.max_action_dim),
        model.layout(valid),
        model.time_table(),
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*arguments)
    # The counter does not know the attention kernel of a CPU.
    counted = [p.flops for p in products(config, cameras, prompt) if p.weight]
    assert sum(counted) == counter.get_total_flops()


def test_the_published_size() -> None:
    full = Pi0Config()
    assert sum(p.flops for p in products(full, 2, 48)) == pytest.approx(2.947e12, rel=0.01)
    assert weight_bytes(full, 2) == pytest.approx(5.2e9, rel=0.01)


def test_without_lerobot_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, plot, page = (tmp_path / name for name in ("x.json", "x.png", "x.md"))
    nowhere = tmp_path / "nowhere"
    arguments = ["--size", "tiny", "--runs", "2", "--steps", "2", "--prompt", "12"]
    arguments += ["--peers", str(nowhere), "--json", str(file), "--plot", str(plot)]
    assert bench.main([*arguments, "--write", str(page)]) == 0
    shown = capsys.readouterr().out
    assert f"LeRobot is not in {nowhere}" in shown
    assert "`make reference` installs it" in shown
    (case,) = json.loads(file.read_text())["cases"]
    contestant = case["contestants"]["pi0_ros"]
    for key in ("cpu_s", "wall_s", "stages", "peak_bytes", "aten_calls", "ratio"):
        assert contestant[key]
    assert contestant["ratio"] == pytest.approx(contestant["cpu_s"] / case["bound_s"])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "| not measured |" in page.read_text()


@pytest.mark.parametrize(
    "wrong",
    [["--prompt", "0"], ["--prompt", "49"], ["--runs", "1"], ["--json", "/dev/null/x.json"]],
)
def test_wrong_arguments(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        bench.main(wrong)
    assert end.value.code == 2
    assert capsys.readouterr().err


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    job = job_of("tiny", tmp_path)
    with pytest.raises(BenchError, match=r"pi0_ros: its process ended(.|\n)*no such"):
        Process(ours(), {**job, "checkpoint": "/no such"}, 1)
