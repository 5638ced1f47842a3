"""The overhead of the node: counting on hand-made data, the table, the whole command over DDS."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")
pytest.importorskip("pi0_ros.msg", reason="the messages are not built")

from support import ROOT

from benchmarks.overhead.__main__ import PAGE, main, warnings
from benchmarks.overhead.figures import (
    Case,
    Chunk,
    Figures,
    Lost,
    OverheadError,
    Refused,
    Tick,
    count_lost,
    figures,
    read_rates,
    read_ticks,
)
from benchmarks.overhead.robot import RobotSettings, streams
from benchmarks.overhead.table import markdown, text
from benchmarks.page import has_marks, marks, write_between
from pi0_ros.errors import UserError

BEGIN, END = marks(PAGE)
CASE = Case(640, 480, policy="process", rate_hz=10.0)


def tick(at: float, took: float = 0.06, overhead: float = 0.002) -> Tick:
    """A tick whose inference took so long, one millisecond of it for decoding and transfer."""
    chunk = Chunk(at + overhead + took, overhead, inference=took, policy=took - 0.001)
    return Tick(at, 0.01, chunk)


def grid(count: int, without: tuple[int, ...] = (), **options: Any) -> list[Tick]:
    """Ticks from 100 s on, each up to 4 ms late, some left out."""
    late = (0.0, 0.004, 0.001)
    return [tick(100 + k / 10 + late[k % 3], **options) for k in range(count) if k not in without]


def run_of(ticks: list[Tick], **options: Any) -> Figures:
    given = {"trajectories": [], "robot_hz": {}, "node_cpu": 0.2, "policy_cpu": 0.5}
    refused = options.pop("refused", [])
    return figures(CASE, 101.0, 103.0, ticks, refused, **{**given, **options})


# Counting ------------------------------------------------------------------------------------


def test_timings_become_ticks_with_their_chunks() -> None:
    lines = [
        "10.000000 image_age 0.020000000\n",  # refused after its inference: no chunk
        "10.100000 image_age 0.012000000\n",
        "10.165000 prepare 0.010000000\n",
        "10.165000 denoise 0.040000000\n",
        "10.165000 inference 0.060000000\n",
        "10.165100 overhead 0.003000000\n",
        "10.200000 image_age 0.011000000\n",
        "10.265000 prepare 0.01",  # the node was ended here
    ]
    first, second, third = read_ticks(lines)
    assert first == Tick(10.0, 0.02, None) and third == Tick(10.2, 0.011, None)
    assert second.chunk.done == 10.1651 and second.image_age == 0.012
    assert second.chunk.policy == pytest.approx(0.05)
    # 3 ms by the node's own count, and 10 ms that decoding and transfer took.
    assert second.chunk.added == pytest.approx(0.013)


def test_a_steady_timer_loses_nothing() -> None:
    assert count_lost(grid(200), 10.0, refused=0) == Lost(199, 0, 0, 0)


@pytest.mark.parametrize("absent", [(5,), (5, 6, 7), (5, 90), tuple(range(1, 50))])
def test_ticks_that_the_timer_left_out_are_missed(absent: tuple[int, ...]) -> None:
    lost = count_lost(grid(200, without=absent), 10.0, refused=0)
    assert lost == Lost(199, len(absent), 0, 0)


def test_ticks_during_an_inference_are_busy() -> None:
    ticks = grid(30, without=(11, 12))
    ticks[10] = tick(ticks[10].at, took=0.25)
    assert count_lost(ticks, 10.0, refused=0) == Lost(29, 0, 2, 0)


def test_of_ticks_after_a_long_inference_only_those_during_it_are_busy() -> None:
    ticks = grid(30, without=(11, 12, 13))
    ticks[10] = tick(ticks[10].at, took=0.25)
    assert count_lost(ticks, 10.0, refused=0) == Lost(29, 1, 2, 0)


def test_refused_ticks_are_not_missed() -> None:
    on_the_spot = grid(30, without=(8, 9))
    assert count_lost(on_the_spot, 10.0, refused=2) == Lost(29, 0, 0, 2)
    assert count_lost(on_the_spot, 10.0, refused=1) == Lost(29, 1, 0, 1)
    after_the_inference = grid(30)
    after_the_inference[8] = replace(after_the_inference[8], chunk=None)
    assert count_lost(after_the_inference, 10.0, refused=1) == Lost(29, 0, 0, 1)


def test_figures_count_from_a_tick_to_a_tick_between_the_times() -> None:
    ticks = grid(50)
    ticks[2] = tick(ticks[2].at, overhead=0.5)  # before
    ticks[15] = tick(ticks[15].at, overhead=0.004)
    refused = [Refused(at, Counter(missing=3)) for at in (100.5, 101.5, 102.5, 103.5)]
    found = run_of(ticks, refused=refused, trajectories=[tick.at for tick in ticks])
    assert found.seconds == pytest.approx(2.0, abs=0.005)
    assert found.tick_hz == pytest.approx(10.0, rel=0.01)
    assert found.lost == Lost(20, 0, 0, 0) and found.trajectories == 20
    assert found.refused == {}  # those were before
    assert found.overhead_ms["p50"] == pytest.approx(3.0)
    assert 4.0 < found.overhead_ms["p99"] < 5.0
    assert found.transfer_ms["p99"] == pytest.approx(1.0)
    assert found.inference_ms["p50"] == pytest.approx(59.0)
    assert found.image_age_ms["p95"] == pytest.approx(10.0)
    assert found.met


def test_the_target_is_missed_by_a_lost_tick_or_a_long_overhead() -> None:
    assert run_of(grid(50)).met
    assert not run_of(grid(50, without=(15,))).met
    assert not run_of(grid(50, overhead=0.0045)).met  # and 1 ms for decoding and transfer
    assert run_of(grid(50), stops=[0.019] * 10).met
    slow = run_of(grid(50), stops=[0.019, 0.021])
    assert not slow.met and slow.stops == 2
    assert "2 emergency stops, to the stopping trajectory, ms" in text([slow])


@pytest.mark.parametrize("ticks", [[], grid(5), grid(25), [Tick(t / 10, 0.0) for t in range(2000)]])
def test_too_little_for_figures_is_an_error(ticks: list[Tick]) -> None:
    with pytest.raises(OverheadError, match="needed for figures"):
        run_of(ticks)


def test_rates_of_the_robot_count_between_the_times_only() -> None:
    reports = [(9.0, 0), (10.0, 300), (11.0, 330), (12.0, 360), (13.0, 900)]
    lines = [json.dumps({"at": at, "sent": {"/front": sent}}) + "\n" for at, sent in reports]
    assert read_rates([*lines, '{"at": 12.5, "se'], 9.5, 12.6) == {"/front": 30.0}
    with pytest.raises(OverheadError, match="at least 2"):
        read_rates(lines, 9.5, 10.5)


def test_images_come_at_every_moment_between_two_ticks() -> None:
    node = SimpleNamespace(create_publisher=lambda *_: SimpleNamespace(publish=lambda _: None))
    settings = RobotSettings(("a", "b", "c"), "joint_states", "instruction", ("pan",), 4, 3)
    cameras = streams(node, settings)[:3]
    assert len({s.due for s in cameras}) == 3
    for s in cameras:
        moments = np.sort((s.due + s.period * np.arange(round(10 / s.period))) % 0.1)
        assert np.diff(moments, append=moments[0] + 0.1).max() < 0.005


def test_a_starved_robot_is_told_apart() -> None:
    steady = run_of(grid(50), robot_hz={"/a": 30.1, "/b": 29.8, "/joint_states": 99.0})
    starved = replace(steady, robot_hz={"/a": 30.1, "/b": 20.0, "/joint_states": 99.0})
    few = replace(steady, trajectories=steady.lost.due - 5)
    steady = replace(steady, trajectories=steady.lost.due)
    assert warnings([steady]) == []
    assert any("20.0 of 30 messages per second on /b" in line for line in warnings([starved]))
    assert any("15 of 20 trajectories" in line for line in warnings([few]))


# The table -----------------------------------------------------------------------------------


def test_the_table_stands_between_the_marks_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\n## After\n")
    good, bad = run_of(grid(50)), run_of(grid(50, without=(15,)))
    for _ in range(2):  # a second time replaces the first
        write_between(page, PAGE, markdown([good, bad], ["On a day:", "on a machine."]))
    written = page.read_text()
    assert written.startswith(f"# Before\n\n{BEGIN}\nOn a day:\non a machine.\n\n|  | 640 x 480,")
    assert written.endswith(f"|\n{END}\n\n## After\n") and "old" not in written
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[-1].endswith("| met | not met |")
    assert "| 0, 0, 0 of 20 | 1, 0, 0 of 20 |" in written
    assert "3.00 / 3.00 / 3.00" in text([good])


def test_a_page_without_marks_is_not_touched(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END} {BEGIN}")
    with pytest.raises(UserError, match="lacks the lines"):
        write_between(page, PAGE, "table")
    assert page.read_text() == f"{END} {BEGIN}"


def test_the_shipped_page_has_the_marks() -> None:
    assert has_marks(ROOT / "docs/reliability.md", PAGE)


# The command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["1"],
        ["nan"],
        ["--rate", "0"],
        ["--size", "640"],
        ["--size", "0x480"],
        ["--policy", "maybe"],
        ["--checkpoint", "."],
        ["--checkpoint", "/none", "--params", "/none"],
        ["--write", "/no/such/page.md"],
    ],
)
def test_wrong_arguments_end_with_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


@pytest.mark.ros
@pytest.mark.slow
def test_the_command_measures_both_ways_to_run_the_policy(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("msgpack")
    pytest.importorskip("prometheus_client")
    file, page = tmp_path / "figures.json", tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    argv = ["3", "--size", "320x240", "--warm-up", "1", "--json", str(file), "--write", str(page)]
    argv += ["--stops", "3"]
    monkeypatch.setattr(sys, "argv", ["benchmarks.overhead", *argv])
    status = main()
    printed = capsys.readouterr().out
    document = json.loads(file.read_text())
    runs = document["runs"]
    assert status == (0 if all(run["met"] for run in runs) else 1)
    assert [run["policy"] for run in runs] == ["node", "process"]
    for run in runs:
        assert (run["width"], run["height"], run["rate_hz"]) == (320, 240, 10.0)
        assert run["seconds"] > 2 and run["tick_hz"] > 0 and run["node_cpu"] > 0
        assert run["lost"]["due"] > 20
        assert 0 < run["trajectories"] <= run["lost"]["due"]
        assert run["stops"] == 3
        for key in ("overhead_ms", "transfer_ms", "inference_ms", "image_age_ms", "stop_ms"):
            p50, p95, p99 = (run[key][name] for name in ("p50", "p95", "p99"))
            assert 0 < p50 <= p95 <= p99 < math.inf, key
        assert run["transfer_ms"]["p50"] < run["overhead_ms"]["p50"]
        topics = ["/front/image_raw", "/wrist/image_raw", "/joint_states"]
        assert list(run["robot_hz"]) == topics and min(run["robot_hz"].values()) > 1
    assert runs[0]["policy_cpu"] is None and runs[1]["policy_cpu"] > 0
    assert "320 x 240, policy process of its own" in printed
    table = page.read_text()
    assert (
        "overhead p50 / p95 / p99, ms" in table
        and "`python -m benchmarks.overhead 3 --size" in table
    )


@pytest.mark.ros
def test_a_checkpoint_that_does_not_load_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters: {joints: [a, b], cameras: [front]}\n")
    argv = ["--checkpoint", str(tmp_path), "--params", str(params), "--policy", "node"]
    assert main([*argv, "--size", "64x48"]) == 1
    assert "the node cannot begin: configure failed" in capsys.readouterr().err
