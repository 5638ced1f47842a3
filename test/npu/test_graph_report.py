"""The model lowers to one GE graph that has what it should, and no more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Report = dict[str, Any]
Run = Callable[..., Any]
KEYS = {
    "graphs",
    "ge_nodes",
    "kernel_nodes",
    "by_type",
    "launches",
    "unsupported",
    "aten_calls",
    "flops",
    "bytes",
    "scoped",
    "estimate_ms",
}
MODULE = ("-m", "benchmarks.graph_report")
TINY = ("--config", "tiny", "--layers", "2", "--steps", "2")
FULL = ("--config", "full", "--layers", "2", "--steps", "2")
PI05 = ("--model", "pi05")
CASES = {
    "tiny": TINY,
    "options": (
        *TINY,
        *("--rotary", "broadcast", "--masks", "padded", "--super-kernel", "--op", "pfa"),
    ),
    "guided": (*TINY, "--rtc", "guided"),
    "pi05 trained": (
        *(*PI05, "--config", "tiny", "--layers", "1", "--steps", "2"),
        *("--rtc", "trained"),
    ),
    "two graphs": (
        *("--config", "tiny", "--layers", "2", "--steps", "3"),
        *("--form", "two-graph", "--op", "pfa", "--png", "two graphs.png"),
    ),
    "pi05 two graphs": (
        *(*PI05, "--config", "tiny", "--layers", "2", "--steps", "3"),
        *("--form", "two-graph", "--op", "pfa"),
    ),
    "int8": (*FULL, "--precision", "int8"),
    "full": FULL,
}
"""Name -> options of the command."""


@pytest.fixture(scope="module")
def folder(stand_ins: Path, with_torch_npu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a report of each case."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "cases.json").write_text(json.dumps(CASES))
    with_torch_npu("-m", "npu.under_stand_ins", stand_ins, "npu.measure_reports", folder)
    return folder


@pytest.fixture
def report(folder: Path) -> Callable[[str], Report]:
    """report(case) -> its figures."""

    def read(case: str) -> Report:
        error = folder / f"{case}.error"
        assert not error.exists(), error.read_text()
        return json.loads((folder / f"{case}.json").read_text())

    return read


@pytest.fixture
def command(stand_ins: Path, with_torch_npu: Run, tmp_path: Path) -> Callable[..., Report]:
    """command(*options) -> the figures of the command in a process of its own."""

    def run(*options: str) -> Report:
        file = tmp_path / "report.json"
        with_torch_npu(*MODULE, *options, "--json", file, "--stand-ins", stand_ins)
        return json.loads(file.read_text())

    return run


def assert_gates(report: Report, layers: int, steps: int) -> None:
    """What holds for every frame: one graph, fused operators, nothing joined in the steps."""
    kinds = report["by_type"]
    assert set(report) == KEYS
    assert report["graphs"] == report["launches"] == 1
    assert report["unsupported"] == []  # neither operators nor float64
    assert "SoftmaxV2" not in kinds and "Softmax" not in kinds
    # Tokens only: images and prompt once, state and actions in each step.
    assert kinds["ConcatV2"] == 1 + steps and "ConcatD" not in kinds
    runs = layers * steps  # expert layers of the steps; the prefix omits most of one
    assert kinds["RotaryMul"] == runs + layers
    assert kinds["GeGluV2"] == runs + layers - 1
    assert kinds["AddRmsNorm"] == 2 * kinds["GeGluV2"]
    # Weights are stored as they are multiplied; one transpose cuts the images into patches.
    assert kinds["Transpose"] == 1


def test_two_layers_of_the_full_model(report: Callable[[str], Report], folder: Path) -> None:
    figures, text = report("full"), (folder / "full.txt").read_text()
    assert_gates(figures, 2, 2)
    assert figures["by_type"]["FusedInferAttentionScore"] == 2 + 1 + 4
    assert figures["kernel_nodes"] <= 109
    assert figures["aten_calls"] <= 261
    # Widths of the published model, two layers: products of vision, prefix, state and two steps.
    tokens, vision = 2 * 256 + 48, 2 * 256
    per_expert_token = 1024 * 2560 + 2048 * 1024 + 1024 * 8192 + 4096 * 1024
    weights_times_tokens = (
        vision * (588 * 1152 + 2 * (1152 * 3840 + 1280 * 1152 + 2 * 1152 * 4304) + 1152 * 2048)
        + tokens * (2048 * 2560 + 2048 * 2048 + 3 * 2048 * 16384 + 2048 * 512)
        + 32 * 1024
        + 2 * (50 * (32 * 1024 + 1024 * 1024 + 1024 * 32) + 51 * 2 * per_expert_token)
    )
    products = figures["flops"]["BatchMatMul"] + figures["flops"]["MatMulV2"]
    assert products == 2 * weights_times_tokens
    assert "ESTIMATE" in text and "nothing was run" in text
    assert figures["estimate_ms"].keys() == {"910B2", "910B3", "910B4", "310P3"}
    (low, high), (slower, _) = (figures["estimate_ms"][soc] for soc in ("910B2", "910B4"))
    assert 0 < low < high and low < slower
    # Seven calls of attention are far from the chip's peak at these sizes.
    others = figures["kernel_nodes"] - 7
    assert 4.5e-3 * others < high - low < 4.5e-3 * others + 7 * 70e-3


def test_options_of_kernels(report: Callable[[str], Report], folder: Path) -> None:
    """Tables that are broadcast, wider masks, a super-kernel scope per step."""
    before, figures = report("tiny"), report("options")
    assert figures["unsupported"] == []
    kinds = figures["by_type"]
    # Two layers, each once in the prefix and twice in the steps; of the last prefix layer there
    # are keys and values only, whose tables need no slices any more.
    layers = 1 + 2 * 2
    assert kinds["RotaryMul"] == before["by_type"]["RotaryMul"] == layers + 1
    assert kinds["SplitV"] == before["by_type"]["SplitV"] + layers
    assert before["scoped"] == 0 and figures["scoped"] > 2 * 2 * 12, "all of both steps"
    assert f"{figures['scoped']}" in (folder / "options.txt").read_text()


def test_int8_quantises_in_the_norms_of_the_prefix(report: Callable[[str], Report]) -> None:
    figures = report("int8")
    assert figures["unsupported"] == [] and figures["launches"] == 1
    kinds = figures["by_type"]
    # Four products per layer of vision and of the prefix, of whose last one there is one.
    assert kinds["QuantBatchMatmulV3"] == 2 * 4 + 4 + 1
    assert kinds["AddRmsNormDynamicQuant"] == 2, "of the one whole layer of the prefix"
    assert kinds["AddRmsNorm"] == 2 * 2 * 2, "of the steps, as ever"
    # All of vision; of the prefix the first norm, attention, hidden values.
    assert kinds["DynamicQuant"] == 2 * 4 + 1 + 2
    assert figures["flops"]["QuantBatchMatmulV3"] > 0
    assert figures["kernel_nodes"] <= 109 + 11


def test_guided_chunking_adds_few_nodes(report: Callable[[str], Report]) -> None:
    before, figures = report("tiny"), report("guided")
    assert figures["unsupported"] == [] and figures["launches"] == 1
    assert 0 < figures["kernel_nodes"] - before["kernel_nodes"] <= 14


@pytest.mark.slow  # small ones of pi0.5 are among the cases
def test_two_layers_of_the_full_pi05(command: Callable[..., Report]) -> None:
    figures = command(*PI05, *FULL)
    kinds = figures["by_type"]
    assert figures["graphs"] == figures["launches"] == 1
    assert figures["unsupported"] == []
    # Norms are those of pi0, their shifts are biases: each block only has its gate besides.
    assert kinds["AddRmsNorm"] == 2 * kinds["GeGluV2"] == 2 * (2 * 2 + 1)
    assert kinds["Mul"] == 2 * 2 * 2 + 1
    # The prompt: its tokens are looked up once, and its positions are those of the actions.
    assert kinds["GatherV2"] == kinds["Sin"] == kinds["Cos"] == 1
    assert figures["bytes"]["GatherV2"] < 4e6
    assert figures["kernel_nodes"] <= 156


def test_two_graphs_of_pi05(report: Callable[[str], Report]) -> None:
    figures = report("pi05 two graphs")
    assert (figures["graphs"], figures["launches"]) == (2, 4)
    assert figures["unsupported"] == []
    # The prompt is embedded and its layout made in the prefix's graph only.
    assert figures["by_type"]["GatherV2"] == figures["by_type"]["Sin"] == 1


def test_two_graphs_with_prompt_flash_attention(
    report: Callable[[str], Report], folder: Path
) -> None:
    figures, png = report("two graphs"), folder / "two graphs.png"
    kinds = figures["by_type"]
    assert (figures["graphs"], figures["launches"]) == (2, 4)
    assert figures["unsupported"] == []
    assert kinds["PromptFlashAttention"] == 2 + 1 + 3 * 2
    # This kernel knows no shared prefix: every layer of every step joins keys and values.
    assert kinds["ConcatV2"] == 1 + 3 + 2 * 3 * 2
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000


def test_it_tells_of_float64_and_of_operators_without_a_converter(
    stand_ins: Path, with_torch_npu: Run, tmp_path: Path
) -> None:
    with_torch_npu(
        *("-m", "npu.under_stand_ins", stand_ins, "npu.measure_faults", tmp_path / "out.json")
    )
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["double"] and all("float64" in line for line in said["double"])
    assert any("aten.roll" in line for line in said["unsupported"])


def test_without_torch_npu_it_says_what_to_install(without_torch_npu: Run) -> None:
    done = without_torch_npu(*MODULE, "--config", "tiny", check=False)
    assert done.returncode != 0
    assert "pip install --no-deps torch_npu==" in done.stderr
    assert "Traceback" not in done.stderr


def test_given_actions_are_selected(report: Callable[[str], Report]) -> None:
    """Theirs is another row of the time table, and they are restored; norms need one constant."""
    figures = report("pi05 trained")
    kinds = figures["by_type"]
    assert (figures["graphs"], figures["unsupported"]) == (1, [])
    assert kinds["SelectV2"] == 1 + 2 * 2
    assert kinds["Fill"] <= 3 + 2
    assert figures["kernel_nodes"] <= 132


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_frame_at_full_depth(command: Callable[..., Report]) -> None:
    figures = command("--config", "full")
    assert_gates(figures, 18, 10)
    assert figures["by_type"]["FusedInferAttentionScore"] == 27 + 17 + 180
    assert figures["kernel_nodes"] <= 2384


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_frame_of_pi05_at_full_depth(command: Callable[..., Report]) -> None:
    figures = command("--model", "pi05", "--config", "full")
    assert figures["unsupported"] == [] and figures["launches"] == 1
    assert figures["by_type"]["FusedInferAttentionScore"] == 27 + 17 + 180
    assert figures["kernel_nodes"] <= 3111


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_step_at_full_depth(command: Callable[..., Report]) -> None:
    figures = command("--config", "full", "--steps", "1")
    assert_gates(figures, 18, 1)
    assert figures["kernel_nodes"] <= 674


@pytest.mark.slow
def test_trained_chunking_adds_few_nodes(command: Callable[..., Report]) -> None:
    before, figures = command(*TINY), command(*TINY, "--rtc", "trained")
    assert figures["unsupported"] == [] and figures["launches"] == 1
    assert 0 < figures["kernel_nodes"] - before["kernel_nodes"] <= 14
