import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.profile.parser import Kernel, OperatorTime, Profile, ProfileError, StepTimes
from pi0_ros.profile.report import busy_within, covered, make_report, merge, report_json
from pi0_ros.profile.table import format_comparison, format_report

SHORT = st.integers(0, 60)
INTERVALS = st.lists(st.tuples(SHORT, SHORT).map(lambda pair: tuple(sorted(pair))), max_size=20)


def kernel(start: int, duration: int, core: str = "AI_CORE", **more) -> Kernel:
    type_ = more.pop("type", "MatMul")
    return Kernel(f"{type_}{start}", type_, core, start, duration, duration, **more)


@given(INTERVALS)
def test_a_union_covers_each_moment_once(intervals):
    moments = {t for start, end in intervals for t in range(start, end)}
    merged = merge(intervals)
    assert covered(intervals) == len(moments)
    assert {t for start, end in merged for t in range(start, end)} == moments
    assert all(a[1] < b[0] for a, b in itertools.pairwise(merged))


@given(INTERVALS, st.integers(1, 10))
def test_a_union_with_gaps_closes_those_up_to_their_length(intervals, gap):
    closed = merge(intervals, gap)
    assert all(b[0] - a[1] > gap for a, b in itertools.pairwise(closed))
    moments = {t for start, end in closed for t in range(start, end)}
    assert {t for start, end in intervals for t in range(start, end)} <= moments


@given(INTERVALS, INTERVALS, SHORT, SHORT)
def test_computing_and_bare_communication_fill_the_union(computing, traffic, start, end):
    start, end = sorted((start, end))
    kernels = [kernel(a, b - a) for a, b in computing]
    kernels += [kernel(a, b - a, "HCCL") for a, b in traffic]
    window = set(range(start, end))
    busy = {t for a, b in computing for t in range(a, b)} & window
    bare = ({t for a, b in traffic for t in range(a, b)} & window) - busy
    assert busy_within(kernels, start, end) == (len(busy), len(bare))


BEFORE = make_report(
    Profile(
        "eager",
        kernels=(
            kernel(0, 40_000_000, step="1"),
            kernel(60_000_000, 31_600_000, "AI_VECTOR_CORE", type="Mul", step="1"),
            kernel(200_000_000, 40_000_000, step="2"),
            kernel(260_000_000, 31_600_000, "AI_VECTOR_CORE", type="Mul", step="2"),
        ),
        steps=(StepTimes("", "1", 71.6, 0.0, 20.0), StepTimes("", "2", 71.6, 0.0, 20.0)),
    )
)
AFTER = make_report(
    Profile(
        "graph",
        kernels=(kernel(0, 40_000_000, step="1"), kernel(41_000_000, 10_000_000, "MIX_AIC")),
        steps=(StepTimes("", "1", 71.6, 0.0, 4.58),),
    )
)


def test_the_table_shows_a_step_on_average_and_all_of_them():
    lines = format_report(BEFORE).splitlines()
    assert lines[0] == "eager"

    def row(name: str) -> list[str]:
        return next(line for line in lines if line.startswith(name)).removeprefix(name).split()

    assert row("computing") == ["71.600", "ms", "143.200", "ms"]
    assert row("idle") == ["20.000", "ms", "40.000", "ms"]
    assert row("busy share") == ["78.2", "%", "78.2", "%"]
    assert row("AI_CORE") == ["55.9", "%"]
    assert row("MatMul") == ["AI_CORE", "1", "40.000", "55.9", "%"]
    assert row("2 ") == ["71.600", "ms", "20.000", "ms", "78.2", "%"]


def test_the_comparison_is_of_mean_steps():
    lines = [" ".join(line.split()) for line in format_comparison(BEFORE, AFTER).splitlines()]
    assert "computing 71.600 ms 71.600 ms +0.000 ms" in lines
    assert "idle 20.000 ms 4.580 ms -15.420 ms" in lines
    assert "busy share 78.2 % 94.0 % +15.8 points" in lines
    assert "kernels 2 2 +0" in lines


def test_json_of_a_report():
    document = json.loads(json.dumps(report_json(AFTER)))
    assert document["computing_ms"] == 71.6
    assert document["free_ms"] == 4.58
    assert round(document["busy_share"], 3) == 0.94
    assert document["core_share"] == {"AI_CORE": 0.8, "MIX_AIC": 0.2}
    document = report_json(BEFORE)
    assert document["computing_ms"] == pytest.approx(143.2)
    assert document["per_step"]["computing_ms"] == pytest.approx(71.6)
    assert document["per_step"]["kernels"] == 2


def test_busy_over_time_is_exact_and_a_mean_over_devices():
    plot = pytest.importorskip("pi0_ros.profile.plot")
    kernels = [kernel(0, 25, device="0"), kernel(10, 5, device="0"), kernel(50, 50, device="0")]
    edges, share = plot.busy_over_time(kernels, 4)
    np.testing.assert_allclose(edges, np.array([0, 25, 50, 75, 100]) / 1e6)
    np.testing.assert_allclose(share, [1, 0, 1, 1])
    kernels += [kernel(25, 50, device="1"), kernel(75, 25, "HCCL", device="1")]
    np.testing.assert_allclose(plot.busy_over_time(kernels, 4)[1], [0.5, 0.5, 1, 0.5])


def test_the_image_shows_every_core_even_kernels_far_below_a_pixel(tmp_path):
    pytest.importorskip("matplotlib")
    cv2 = pytest.importorskip("cv2")
    from pi0_ros.profile.plot import plot_timeline

    def coloured(kernels: list[Kernel]) -> int:
        path = tmp_path / "timeline.png"
        plot_timeline(path, make_report(Profile("x", tuple(kernels))))
        image = cv2.imread(str(path)).astype(int)
        lanes = image[160:]
        return int(((lanes.max(2) - lanes.min(2)) > 60).sum())

    # Traffic, drawn in grey, spans the time; the kernels on it are drawn in colour.
    grey = kernel(0, 10**9, "HCCL")
    assert coloured([grey]) == 0
    one = coloured([grey, kernel(5 * 10**8, 1000)])
    assert one > 10
    many = [kernel(k * 10**7, 1000) for k in range(100)]
    assert coloured([grey, *many]) > 50 * one


def test_an_image_needs_kernels(tmp_path):
    pytest.importorskip("matplotlib")
    from pi0_ros.profile.plot import plot_timeline

    report = make_report(Profile("empty", steps=(StepTimes("", "1", 1.0, 0.0, 1.0),)))
    with pytest.raises(ProfileError, match="empty: no kernels"):
        plot_timeline(tmp_path / "x.png", report)


def complete(steps: tuple[StepTimes, ...]) -> Profile:
    """Ten matrix products of 1 ms, ten other kernels of 2 ms, as three files that agree."""
    kernels = [kernel(i * 5_000_000, 1_000_000, step="1") for i in range(10)]
    kernels += [
        kernel(i * 5_000_000 + 1_000_000, 2_000_000, "AI_VECTOR_CORE", type="Mul", step="1")
        for i in range(10)
    ]
    kernels.sort(key=lambda k: (k.type, k.start))
    operators = (
        OperatorTime("MatMul", "AI_CORE", 10, 10.0),
        OperatorTime("Mul", "AI_VECTOR_CORE", 10, 20.0),
        OperatorTime("hcom_allReduce_", "HCCL", 3, 9.0),
    )
    return Profile("whole", tuple(kernels), steps, operators)


STEP = (StepTimes("", "1", 30.0, 0.0, 20.0),)


def test_files_that_agree_raise_no_doubt():
    assert make_report(complete(STEP)).warnings == ()


def test_a_kernel_table_that_was_cut_off_is_told_and_not_believed():
    whole = complete(STEP)
    report = make_report(replace(whole, kernels=whole.kernels[:12]))
    counts, times = report.warnings
    assert "kernel_details.csv has 12 kernels, op_statistic.csv counts 20" in counts
    assert "30.000 ms of computing" in times and "cover 14.000 ms" in times
    assert report.core_share["AI_CORE"] == pytest.approx(1 / 3)
    assert report.kernel_count == 20


def test_an_operator_table_that_was_cut_off_is_told():
    whole = complete(STEP)
    report = make_report(replace(whole, operators=whole.operators[:1]))
    assert len(report.warnings) == 1 and "those of kernel_details.csv" in report.warnings[0]
    assert report.core_share["AI_CORE"] == pytest.approx(1 / 3)


def test_steps_of_another_run_are_told():
    report = make_report(complete((StepTimes("", "1", 45.0, 0.0, 20.0),)))
    assert len(report.warnings) == 1 and "45.000 ms of computing" in report.warnings[0]
