"""Targets are judged by the figures of a report."""

from dataclasses import replace

import pytest
import torch

from benchmarks.race.case import STAGES, Case, Product
from benchmarks.race.compile import Compiled
from benchmarks.race.load import Load
from benchmarks.race.machine import Machine, bound, by_shape, in_int8, measure_machine
from benchmarks.race.race import NEW, OURS, Result, agreement
from benchmarks.race.report import Group, Report, figures, text
from benchmarks.race.scaling import _growth
from benchmarks.race.targets import judge, markdown

MACHINE = Machine(1e12, 1e12, 9e11, 1e10)


def result(name: str, seconds: float, calls: int) -> Result:
    runs = [
        {
            "cpu_s": seconds * scale,
            "wall_s": seconds,
            "stages": dict.fromkeys(STAGES, seconds / 4),
            "peak_bytes": 110,
        }
        for scale in (0.9, 1.0, 1.1)
    ]
    counted = {"total": 2 * calls, "non_view": calls, "gemm": 10}
    actions = torch.ones(5, 3)
    return Result(name, "bfloat16", runs=runs, aten_calls=counted, actions=actions).finish()


def group(ours: float, theirs: float, calls: int = 4000, prompt: int = 48) -> Group:
    case = Case("full", 2, 10, prompt, "bfloat16", 1)
    results = (result(OURS, ours, calls), result(NEW, theirs, 11000))
    seconds = dict.fromkeys(STAGES, 0.25)
    return Group(case, results, MACHINE, seconds, seconds, 100)


def verdicts(report: Report) -> dict[str, bool | None]:
    return {target.name: target.met for target in judge(report)}


def test_medians_and_spread() -> None:
    found = result(OURS, 2.0, 1)
    assert found.cpu_s == 2.0
    assert found.cpu_spread == pytest.approx(0.2)


@pytest.mark.parametrize(("theirs", "met"), [(1.26, True), (1.24, False)])
def test_faster(theirs: float, met: bool) -> None:
    found = verdicts(Report([group(1.0, theirs)]))
    assert found["bfloat16, 48 tokens: times faster than LeRobot 0.4.4"] is met
    assert found["bfloat16, 12 tokens: times faster than LeRobot 0.4.4"] is None


@pytest.mark.parametrize(("ours", "met"), [(1.14, True), (1.16, False)])
def test_near_the_bound(ours: float, met: bool) -> None:
    found = verdicts(Report([group(ours, 2.0)]))
    assert found["bfloat16: times the machine's best rate of products"] is met


@pytest.mark.parametrize(("calls", "met"), [(4500, True), (4501, False)])
def test_calls(calls: int, met: bool) -> None:
    found = verdicts(Report([group(1.0, 2.0, calls)]))
    assert found["operator calls per inference that are no views"] is met


def test_memory_and_loading() -> None:
    report = Report([group(1.0, 2.0)], load=Load(4.0, 2.0, 100))
    found = verdicts(report)
    assert found["bfloat16: peak memory / bytes of the weights needed"] is True
    assert found["loading: seconds, nothing cached / reading the bytes from disk"] is False
    big = replace(report.groups[0], needed_bytes=90)
    assert verdicts(Report([big]))["bfloat16: peak memory / bytes of the weights needed"] is False


def test_growth() -> None:
    straight = _growth((1, 2, 4), (1.0, 2.0, 4.0), (0.9, 1.9, 3.9))
    assert straight.slope == pytest.approx(1.0)
    assert not straight.surprises
    assert _growth((1, 2, 4), (1.0, 2.0, 6.0), (0.9, 1.9, 3.9)).surprises
    assert not _growth((1, 2, 4), (1.0, 2.0, 6.0), (1.0, 2.0, 6.0)).surprises


def test_the_page_has_every_target_and_every_contestant() -> None:
    report = Report([group(1.0, 1.2)], scaling={"steps": _growth((1, 2), (1.0, 2.0), (1.0, 2.0))})
    page = markdown(report, "python -m benchmarks.race --size full")
    for target in judge(report):
        assert f"| {target.name} |" in page
    assert "NOT met" in page
    assert "python -m benchmarks.race --size full" in page
    for name in (OURS, NEW):
        assert name in text(report)
        assert name in figures(report)["cases"][0]["contestants"]


def test_the_compiler_by_its_numbers() -> None:
    fast = Compiled("full", "bfloat16", 6.0, 5.0, 5.0, 200.0, 20.0)
    slow = replace(fast, inductor_s=5.5)
    assert (fast.auto, slow.auto) == ("inductor", "eager")
    report = Report([group(1.0, 1.2)], compiled=[fast])
    assert "inductor, full size, bfloat16: `auto` takes what is faster" in verdicts(report)
    assert figures(report)["compiled"][0]["auto"] == "inductor"
    assert "200.0" in text(report)


@pytest.mark.parametrize(("int8", "most"), [(0.5, "2.00"), (0.9, "1.11")])
def test_what_int8_could_gain(int8: float, most: str) -> None:
    """Of 1 s in all, products are 1 s in bfloat16."""
    found = {t.name: t for t in judge(Report([group(1.0, 1.2)], int8_s=int8))}
    assert f"{most} is the most that" in found["int8: times faster than our bfloat16, cosine"].why


@pytest.mark.parametrize(("p99", "met"), [(4.9, True), (5.1, False)])
def test_overhead_of_the_node(p99: float, met: bool) -> None:
    run = {"width": 640, "height": 480, "policy": "node"}
    run["overhead_ms"] = {"p50": 2.0, "p95": 3.0, "p99": p99}
    found = verdicts(Report([group(1.0, 1.2)], overhead={"runs": [run]}))
    name = "tick to published message less inference, p99: 640 x 480, policy in the node"
    assert found[name] is met


def test_agreement() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert agreement(a, a) == (0.0, pytest.approx(1.0))
    difference, cosine = agreement(a, -a)
    assert difference == 2.0
    assert cosine == pytest.approx(-1.0)


def test_rates_and_bounds_of_a_machine() -> None:
    machine = measure_machine(torch.float32)
    assert machine.gemm >= max(machine.torch_gemm, machine.onednn_gemm) > 1e8
    assert machine.bandwidth > 1e8
    heavy = Product("prefix", 1000, 100, 100, 3)
    light = Product("denoise", 1, 1000, 1000, 2)
    least = bound([heavy, light], replace(MACHINE, gemm=1e9, bandwidth=1e8), 4)
    assert least["prefix"] == pytest.approx(2 * 1000 * 100 * 100 * 3 / 1e9)
    assert least["denoise"] == pytest.approx(4 * 2e6 / 1e8)
    assert by_shape([heavy, light], torch.float32)["prefix"] > 0
    assert in_int8([heavy, replace(light, weight=False)], torch.float32) > 0
