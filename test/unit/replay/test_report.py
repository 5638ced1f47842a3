import json

import numpy as np
import pytest

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.replay.player import Playback
from pi0_ros.replay.report import format_table, make_report
from pi0_ros.ros.diagnostics import Counters, counters_from_values, refused_since

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def chunk(number: int, ages=(0.05, 0.02), inference=0.1, steps=50) -> ChunkRecord:
    positions = np.zeros((steps, 2), np.float32)
    return ChunkRecord(
        START + number * SECOND, number, "task", ("a", "b"), positions, 0.02, ages, inference
    )


def playback(**fields) -> Playback:
    values = {
        "start": START,
        "end": START + 10 * SECOND,
        "counts": {"/front": 300, "/wrist": 299, "/joint_states": 1000},
        "lateness": [0.001, 0.004],
    }
    return Playback(**{**values, **fields})


def counters(second: float, chunks=0, ticks=0, busy=0, moved=0, **refused) -> Counters:
    return Counters(START + round(second * SECOND), ticks, busy, chunks, moved, refused)


def report(chunks=(), in_time=None, trajectories=0, snapshots=(), played=None, warnings=()):
    return make_report(
        "rec",
        1.0,
        played or playback(),
        ["/front", "/wrist"],
        chunks,
        len(chunks) if in_time is None else in_time,
        trajectories,
        snapshots,
        warnings,
    )


def test_refused_since_takes_the_last_counters_before_the_time():
    snapshots = [
        counters(0.1, missing=1),
        counters(0.2, missing=2),
        counters(0.9, missing=2, stale=1),
        counters(1.0, missing=2, stale=2),
        counters(1.5, missing=2, stale=2, skewed=3),
    ]
    assert refused_since(snapshots, START + SECOND) == {"stale": 1, "skewed": 3}
    assert refused_since(snapshots[:3], START + SECOND) == {}
    # Counted in full where nothing was published before.
    assert refused_since(snapshots[4:], START + SECOND) == {"missing": 2, "stale": 2, "skewed": 3}
    assert refused_since([], START) == {}


def test_refusals_before_the_clock_started_are_before_the_first_second():
    snapshots = [Counters(0, 3, 0, 0, 0, {"missing": 3}), counters(2.0, missing=3)]
    assert refused_since(snapshots, START + SECOND) == {}


def test_figures_of_a_replay():
    chunks = [chunk(k, ages=(0.2, k / 1000), inference=k / 100) for k in range(101)]
    snapshots = [
        counters(0.1, ticks=1, missing=1),
        counters(10, 101, ticks=110, busy=5, moved=100, missing=1, stale=3),
    ]
    figures = report(chunks, None, 100, snapshots)
    assert figures == {
        "recording": "rec",
        "rate": 1.0,
        "duration_s": 10.0,
        "frames": 599,
        "frames_per_camera": {"/front": 300, "/wrist": 299},
        "chunks": 101,
        "trajectories": 100,
        "points_per_chunk": 50,
        "points_per_chunk_max": 50,
        "age_ms": {"p50": pytest.approx(50.0), "p95": pytest.approx(95.0)},
        "inference_ms": {"p50": pytest.approx(500.0), "p95": pytest.approx(950.0)},
        "ticks": 110,
        "busy_ticks": 5,
        "refused": {"missing": 1, "stale": 3},
        "refused_after_first_second": {"stale": 3},
        "max_lateness_ms": 4.0,
        "warnings": [],
    }
    assert json.loads(json.dumps(figures)) == figures


def test_ages_of_chunks_that_came_after_the_end_do_not_count():
    chunks = [chunk(0, ages=(0.04,)), chunk(1, ages=(9.0,))]
    assert report(chunks, 1)["age_ms"] == {"p50": 40.0, "p95": 40.0}


def test_a_replay_without_chunks_has_no_figures_but_reasons():
    figures = report(snapshots=[counters(9, ticks=90, missing=90)])
    assert figures["chunks"] == 0
    assert figures["points_per_chunk"] is None
    assert figures["age_ms"] == {"p50": None, "p95": None}
    assert figures["refused"] == {"missing": 90}
    text = format_table(figures)
    assert "90 (missing 90)" in text
    assert "None" not in text and "nan" not in text


def test_table_shows_the_figures():
    chunks = [chunk(k, steps=steps) for k, steps in enumerate((50, 48, 50))]
    snapshots = [counters(2, 3, ticks=5, busy=1, stale=1)]
    lines = format_table(report(chunks, snapshots=snapshots)).splitlines()
    table = {line[: line.rindex("  ")].strip(): line.rsplit("  ", 1)[1] for line in lines}
    assert table == {
        "recording": "rec, 10.0 s at rate 1",
        "frames in, /front": "300",
        "frames in, /wrist": "299",
        "chunks out": "3",
        "points per chunk": "48 to 50",
        "trajectories out": "0 (a dry run)",
        "age of the newest image at publication, p50 / p95": "20.0 / 20.0 ms",
        "inference time, p50 / p95": "100.0 / 100.0 ms",
        "timer ticks that found the policy busy": "1 of 5",
        "observations refused": "1 (stale 1)",
        "observations refused after the first second": "1 (stale 1)",
    }


def test_lateness_is_shown_above_20_ms_and_warned_of_when_frequent():
    once = playback(lateness=[0.0] * 99 + [0.05])
    text = format_table(report(played=once))
    assert "50 ms late" in text and "warning" not in text
    often = format_table(report(played=playback(lateness=[0.0] * 9 + [0.05])))
    assert "warning: one message in twenty" in often
    assert "late" not in format_table(report())


def test_header_stamps_far_from_the_receive_times_are_warned_of():
    made = report(played=playback(stamp_offsets={"/front": 3600.0, "/wrist": 0.01}))
    (warning,) = made["warnings"]
    assert "/front: header stamps lie up to 3600.000 s before" in warning


def test_chunks_that_got_lost_are_warned_of():
    published = [counters(5, chunks=2, ticks=2, moved=2)]
    made = report([chunk(0)], None, 2, published, warnings=["more"])
    lost = "the node published 2 chunks, but 1 arrived"
    assert made["warnings"] == [lost, "more"]
    (warning,) = report([chunk(0)] * 2, None, 1, published)["warnings"]
    assert "2 trajectories, but 1 arrived" in warning


def test_counters_come_from_the_diagnostic_values():
    values = {"ticks": "7", "busy": "1", "chunks": "2", "trajectories": "1"}
    values |= {"refused.stale": "3", "other": "x"}
    read = counters_from_values(5, values)
    assert read == Counters(5, 7, 1, 2, 1, {"stale": 3})
    assert not read.idle
    assert counters_from_values(5, {**values, "refused.missing": "1"}).idle
    with pytest.raises(ValueError, match="ticks, busy, chunks"):
        counters_from_values(5, {"ticks": "1"})
    with pytest.raises(ValueError, match="whole numbers"):
        counters_from_values(5, {**values, "busy": "many"})
