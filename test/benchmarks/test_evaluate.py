"""python -m benchmarks.simulated: what it takes, prints and writes."""

import json
from pathlib import Path

import pytest

from benchmarks.simulated.__main__ import main
from benchmarks.simulated.evaluation import (
    FIRST_SEED,
    MOST_SCENES,
    Evaluation,
    evaluate,
    scene_seeds,
)
from benchmarks.simulated.rollout import Loop
from benchmarks.simulated.setup import read_setup
from pi0_ros.errors import UserError

EXPERT = ["--expert", "--scenes", "4"]
# One that can be late and is not thrown by it; see test_rollout.
LATE = ["-p", "max_jump:=0.6", "-p", "blend:=0.2"]


def run(directory: Path, *arguments: str) -> dict:
    file = directory / "figures.json"
    assert main([*EXPERT, *arguments, "--json", str(file)]) == 0
    return json.loads(file.read_text())


def without_wall_times(figures: dict) -> dict:
    return {name: value for name, value in figures.items() if name != "latency_ms"}


def test_the_expert_touches_what_it_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(tmp_path)
    assert figures["scenes"] == 4
    assert figures["success_rate"] == 1.0
    assert figures["wrong_first"] == figures["untouched"] == 0
    assert 0.5 < figures["touch_s"]["p50"] < 4.0
    assert figures["jerk"] > 0
    for name in ("boundary_step_rad", "boundary_step_rad_s", "latency_ms"):
        spread = figures[name]
        assert 0 <= spread["p50"] <= spread["p95"] <= spread["max"]
    assert figures["rate_hz"] == 10.0 and figures["delay_ms"] == 0.0
    assert figures["policy"] == "expert" and figures["variant"] == "touch"
    assert "100.0% of 4 scenes" in capsys.readouterr().out


def test_a_link_that_fails_makes_the_arm_hold_and_go_on(tmp_path: Path) -> None:
    late = ["-p", "inference_timeout:=0.5", "--link", "20", "1", "1", "1.5", *LATE]
    figures = run(tmp_path, "--seconds", "20", *late)
    assert figures["success_rate"] == 1.0 and figures["link"] == [20, 1, 1, 1.5]
    assert figures["stops"] >= figures["recoveries"] > 0
    assert figures["refused"]["timeout"] > 0 and figures["busy_ticks"] > 0


def test_same_arguments_same_figures_however_many_workers(tmp_path: Path) -> None:
    arguments = ["--delay", "100", "--rate", "20", *LATE]
    first = without_wall_times(run(tmp_path, *arguments))
    assert first["success_rate"] == 1.0
    assert without_wall_times(run(tmp_path, *arguments)) == first
    assert without_wall_times(run(tmp_path, *arguments, "--workers", "2")) == first
    other = run(tmp_path, *arguments, "--seed", "1")
    assert other["touch_s"] != first["touch_s"]


def test_delay_rate_and_parameters_reach_the_loop(tmp_path: Path) -> None:
    figures = run(tmp_path, "--delay", "300", "--rate", "25", *LATE)
    assert figures["parameters"] == {"max_jump": 0.6, "blend": 0.2}
    assert 0.8 < figures["busy_ticks"] / figures["ticks"] < 0.9  # seven of eight
    narrow = run(tmp_path, "--delay", "300", "-p", "max_jump:=0.01")
    assert narrow["success_rate"] == 0.0
    assert narrow["latched"] == 4 and narrow["refused"] == {"limits": 20}


def test_stitching_can_be_left_out(tmp_path: Path) -> None:
    arguments = ["--delay", "300", "--rate", "25", *LATE]
    stitched = run(tmp_path, *arguments)
    raw = run(tmp_path, *arguments, "--no-stitch")
    assert stitched["stitched"] and not raw["stitched"]
    assert raw["boundary_step_rad"]["p50"] > 0.1 > stitched["boundary_step_rad"]["max"]
    assert raw["jerk"] > 5 * stitched["jerk"]


@pytest.mark.parametrize(
    ("controller", "version"),
    [("jtc", "humble"), ("jtc", "jazzy"), ("jtc_replacing", "master"), ("other", "from-desired")],
)
def test_every_controller_gets_its_form(tmp_path: Path, controller: str, version: str) -> None:
    arguments = ["--delay", "76", "--controller", version, "-p", f"controller:={controller}"]
    figures = run(tmp_path, *arguments)
    assert figures["success_rate"] == 1.0
    assert figures["fastest_rad_s"] < 6.0, "the velocity limit"
    assert figures["boundary_step_rad"]["max"] < (0.001 if controller == "jtc" else 0.03)


def test_wrong_pilots_fail(tmp_path: Path) -> None:
    figures = run(tmp_path, "--ablation", "wrong-instruction")
    assert figures["success_rate"] == 0.0
    assert figures["wrong_first"] == 4
    assert len(figures["failed_seeds"]) == 4
    figures = run(tmp_path, "--ablation", "reversed-joints")
    assert figures["success_rate"] == 0.0


def test_the_variant_with_hidden_colours(tmp_path: Path) -> None:
    figures = run(tmp_path, "--variant", "wrist")
    assert figures["variant"] == "wrist"
    assert figures["success_rate"] == 1.0


def test_scenes_of_training_are_never_used() -> None:
    """Training draws seeds of 31 bits."""
    assert scene_seeds(100, 0)[0] == FIRST_SEED == 2**31
    assert scene_seeds(MOST_SCENES, 0)[-1] < scene_seeds(1, 1)[0]
    with pytest.raises(UserError, match="scenes must be from 1"):
        scene_seeds(0, 0)
    with pytest.raises(UserError, match="seed must be at least 0"):
        scene_seeds(1, -1)


def test_a_policy_is_loaded_as_the_node_loads_it(demo_checkpoint: Path) -> None:
    """Random weights: it runs, and does not obey."""
    setup = read_setup(checkpoint=str(demo_checkpoint), rate_hz=5.0)
    episodes = evaluate(Evaluation(Loop(setup, seconds=1.0)), scene_seeds(2, 0))
    assert [len(episode.inference) for episode in episodes] == [5, 5]
    assert not any(episode.success for episode in episodes)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--expert", "-p", "rate_hz:=fast"], "rate_hz: must be a number, got 'fast'"),
    ],
)
def test_what_cannot_be_run_is_said(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--scenes", "1", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("python -m benchmarks.simulated: ") and problem in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scenes", "0"],
        ["--delay", "-1"],
        ["--delay", "nan"],
        ["--workers", "0"],
        ["--ablation", "gremlins"],
        ["-p", "max_jump=1"],
    ],
)
def test_wrong_arguments_end_it_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--expert", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_names_the_ablations(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "upside-down" in capsys.readouterr().out
