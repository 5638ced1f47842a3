"""The demo: what it keeps of a run, and the figures and images that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pi0_ros.demo.drawing import WIDTH, Artist, write_images
from pi0_ros.demo.record import Attempt, Record
from pi0_ros.demo.report import commands_of, format_report, make_report
from pi0_ros.motion.limits import read_limits
from pi0_ros.share import find_shared_file
from pi0_ros.sim.cameras import jpeg
from pi0_ros.sim.points import Points
from pi0_ros.sim.stage import HOME, JOINTS

SECOND = 1_000_000_000
LIMITS = read_limits([find_shared_file("config/so101_limits.yaml")], JOINTS, 60.0)
START = 5 * SECOND  # of the made-up run


# ---- the record ---------------------------------------------------------------------------------


def header(at: float) -> SimpleNamespace:
    sec, nanosec = divmod(round(at * SECOND), SECOND)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


def feed_state(record: Record, at: float) -> None:
    record.on_joint_state(SimpleNamespace(header=header(at)))


def feed_score(record: Record, instruction: str, touched: str | None, right: bool | None) -> None:
    score = {"instruction": instruction, "touched": touched, "right": right, "seconds": 1.25}
    record.on_score(SimpleNamespace(data=json.dumps(score)))


def feed_diagnostics(record: Record, at: float, name: str = "pi0", **limits: str) -> None:
    def status(about: str, values: dict[str, str]) -> SimpleNamespace:
        pairs = [SimpleNamespace(key=key, value=value) for key, value in values.items()]
        return SimpleNamespace(name=f"{name}: {about}", values=pairs)

    seen = {"ticks": "20", "busy": "3", "chunks": "15", "trajectories": "15"}
    seen["refused.missing"] = "1" if at < 6 else "2"
    timings = {"overhead.p50_ms": "2.50", "overhead.p99_ms": "7.25"}
    statuses = [
        status("observations", seen),
        status("limits", {"stops": "1", "latched": "", **limits}),
        status("inference", timings),
    ]
    record.on_diagnostics(SimpleNamespace(header=header(at), status=statuses))


def made_up() -> Record:
    """Four seconds: one object right, another wrong."""
    record = Record()
    told = ("touch the red cube", "touch the blue plate")
    grey = np.full((480, 640, 3), 128, np.uint8)
    for step in range(401):
        at = 5 + step / 100
        feed_state(record, at)
        if step % 4 == 0:
            record.on_image(SimpleNamespace(header=header(at), data=jpeg(grey).tobytes()))
        if step == 0:
            feed_diagnostics(record, at)
        if step % 200 == 20:
            record.attempts.append(Attempt(told[step // 200], record.now))
            feed_score(record, told[step // 200], None, None)
        if step == 150:
            feed_score(record, told[0], "red cube", True)
        if step == 350:
            feed_score(record, told[1], "red cube", False)
        if step % 100 == 30:
            record.on_chunk(
                SimpleNamespace(
                    header=header(at),
                    sequence=0,
                    instruction="",
                    joint_names=list(JOINTS),
                    horizon=2,
                    positions=[*HOME, *(np.array(HOME) + 0.4)],
                    dt=1.0,
                    camera_names=["front", "wrist"],
                    camera_ages=[0.08, 0.06],
                    joint_states_age=0.01,
                    stage_times=[0.02, 0.01],
                    verdict=1,
                    rejected_reason="",
                    seed=0,
                    rtc=0,
                    rtc_fallback="",
                    rtc_delay=0,
                    rtc_weights=[],
                )
            )
    feed_diagnostics(record, 9.0)
    return record


def test_frames_are_thinned_and_images_counted() -> None:
    record = made_up()
    gaps = np.diff([frame.stamp for frame in record.frames]) / SECOND
    assert gaps.min() > 0.11 and gaps.max() < 0.17
    assert record.images == (START, START + 4 * SECOND, 101)


def test_attempts_end_with_the_touch() -> None:
    first, second = made_up().attempts
    assert (first.touched, first.right, first.seconds) == ("red cube", True, 1.25)
    assert first.ended - first.begun == round(1.3 * SECOND)
    assert (second.touched, second.right) == ("red cube", False)
    assert str(first) == "touch the red cube: touched the red cube after 1.2 s, right"
    assert second.verdict.endswith("WRONG")
    nothing = Attempt("touch the red cube", START, START + 12 * SECOND)
    assert nothing.verdict == "nothing in 12 s"


def test_a_late_touch_does_not_count() -> None:
    record = made_up()
    record.attempts.append(Attempt("touch the green cube", START, START + 12 * SECOND))
    feed_score(record, "touch the green cube", "green cube", True)
    assert record.attempts[-1].touched is None


def test_only_the_nodes_diagnostics_count() -> None:
    record = made_up()
    feed_diagnostics(record, 9.5, "camera driver", latched="x")
    assert record.latched == "" and len(record.counters) == 2
    feed_diagnostics(record, 9.6, latched="rejected chunks")
    assert record.latched == "rejected chunks"


# ---- figures ------------------------------------------------------------------------------------


def trajectory(start: float, positions: np.ndarray, velocity: float) -> tuple[int, Points]:
    """At 25 Hz, stamped where it begins."""
    times = 40_000_000 * np.arange(1, len(positions) + 1, dtype=np.int64)
    velocities = np.full_like(positions, velocity)
    velocities[-1] = 0.0
    return round(start * SECOND), Points(
        JOINTS, round(start * SECOND), times, positions, velocities
    )


def test_commands_that_step_are_told() -> None:
    ramp = np.outer(0.04 * np.arange(1, 51), np.full(6, 0.5))
    first = trajectory(5.0, ramp, 0.5)
    smooth = commands_of([first, trajectory(5.4, ramp + 0.2, 0.5)], LIMITS, "jazzy")
    assert smooth.points == (50, 50) and smooth.smooth
    assert smooth.step == pytest.approx(0.5 / 6.0, rel=0.5)
    stepping = commands_of([first, trajectory(5.4, ramp[:20] + 0.6, 0.5)], LIMITS, "jazzy")
    assert stepping.points == (20, 50) and not stepping.smooth and stepping.step > 1.2
    assert commands_of([], LIMITS, "jazzy").smooth


def test_figures_and_their_table() -> None:
    record = made_up()
    found, passed = make_report(record, LIMITS, "jazzy")
    assert not passed
    assert (found["successes"], found["chunks"], found["ticks"]) == (1, 4, 20)
    assert found["images_hz"] == pytest.approx(25)
    assert found["age_ms"]["p50"] == pytest.approx(60)
    assert found["inference_ms"]["p95"] == pytest.approx(30)
    assert found["overhead_ms"] == {"p50": 2.5, "p99": 7.25}
    assert found["refused"] == {"missing": 1}, "since the first instruction"
    text = format_report(found, record.attempts)
    assert "touched the red cube after 1.2 s, right" in text and "1 of 2" in text
    assert "2.5 / 7.2 ms" in text and "1 (missing 1)" in text
    assert "3 of 20 ticks found the policy busy or images old" in text
    assert "because no chunk came: 1" in text
    document = json.loads(json.dumps(found))
    assert document["instructions"][1] == {
        "instruction": "touch the blue plate",
        "touched": "red cube",
        "right": False,
        "seconds": 1.25,
    }


def test_the_run_becomes_images(tmp_path: Path) -> None:
    record = made_up()
    artist = Artist(record)
    assert all(frame.stamp >= record.attempts[0].begun for frame in artist.frames())
    one, two = artist.telling()
    assert record.attempts[0].begun < one.stamp < record.attempts[0].ended
    assert record.attempts[1].begun < two.stamp < record.attempts[1].ended
    before, after = artist.draw(record.frames[0]), artist.draw(one)
    height = WIDTH * 3 // 4
    assert np.ptp(before[:height]) < 4, "no chunk yet, no path"
    assert np.ptp(after[:height]) > 100
    write_images(record, tmp_path)
    with Image.open(tmp_path / "demo.gif") as gif, Image.open(tmp_path / "demo.png") as png:
        assert gif.width == WIDTH and png.width == 2 * WIDTH
