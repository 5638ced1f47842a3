"""The closed loop over DDS: pi0_sim, pi0_node and the trained policy, each what users run."""

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from benchmarks.simulated.__main__ import main
from benchmarks.simulated.late_node import LatePolicy


@pytest.mark.ros
@pytest.mark.slow  # test/e2e/test_demo.py has the same programs obey, as users start them
def test_the_arm_obeys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of real time, so that a machine that is busy with other things keeps up."""
    file = tmp_path / "figures.json"
    arguments = ["--dds", "--speed", "0.5", "--scenes", "2", "--rate", "10"]
    assert main([*arguments, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["dds"] is True and figures["speed"] == 0.5 and figures["scenes"] == 2
    assert figures["success_rate"] >= 0.5
    assert figures["trajectories"] > 5 and figures["rejected"] == 0
    assert figures["latency_ms"]["p50"] > 0
    assert figures["jerk"] > 0
    assert "of 2 scenes" in capsys.readouterr().out


@pytest.mark.ros
def test_a_process_that_ends_ends_it(
    demo_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dds", "--checkpoint", str(demo_checkpoint), "--speed", "-1"]) == 1
    assert "the speed must be above 0, got -1.0" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--expert"], ["--no-stitch"], ["--ablation", "bgr"]])
def test_what_is_in_process_only(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--dds", *arguments])
    assert ended.value.code == 2
    assert f"{arguments[0]} is not for --dds" in capsys.readouterr().err


def test_late_policy_is_late_and_otherwise_the_same() -> None:
    class Inner:
        horizon, device = 50, "cpu"

        def infer(self, observation: object) -> object:
            return observation

    policy = LatePolicy(Inner(), 0.05)
    began = time.monotonic()
    assert policy.infer("seen") == "seen"
    assert time.monotonic() - began >= 0.05
    assert (policy.horizon, policy.device) == (50, "cpu")
