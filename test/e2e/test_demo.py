"""pi0 demo: what it refuses, how it ends, and the whole of it over DDS."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from support import ROOT
from support.process import Process, processes_with
from support.waiting import wait_until

from pi0_ros import cli
from pi0_ros.sim.task import TOUCH_CHECKPOINT
from pi0_ros.sim.world import World


def main(arguments: list[str]) -> int:
    return cli.main(["demo", *arguments])


def test_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no checkpoint is there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_are_not_overwritten_unasked(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bag").mkdir()
    arguments = ["--checkpoint", str(demo_checkpoint), "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert "give --overwrite" in capsys.readouterr().err


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--speed", "0", "--out", str(tmp_path)])
    assert ended.value.code == 2


def test_without_opengl(
    demo_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    World(0).close()  # mujoco is imported here; the robot's process will see the variable
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "none")
    assert main(["--checkpoint", str(demo_checkpoint), "--out", str(tmp_path)]) == 1
    assert "no OpenGL" in capsys.readouterr().err


def test_a_signal_ends_both_processes(
    start_process: Callable[..., Process], demo_checkpoint: Path, tmp_path: Path
) -> None:
    seed = str(900_000_000 + os.getpid())
    arguments = ["--seed", seed, "--out", str(tmp_path), "--checkpoint", str(demo_checkpoint)]
    demo = start_process([sys.executable, "-m", "pi0_ros.cli", "demo", *arguments], cwd=ROOT)

    def both_run() -> bool:
        assert demo.lives(), demo.tail
        return all(
            processes_with(*words)
            for words in (("pi0_ros.sim", seed), ("pi0_ros.node", str(demo_checkpoint)))
        )

    wait_until(both_run, lambda: f"the simulation and the node; {demo.tail}")
    assert demo.end(signal.SIGINT) == 130, demo.tail
    assert "interrupted" in demo.output
    assert not processes_with(seed) and not processes_with(str(demo_checkpoint))


@pytest.mark.skipif(
    not (TOUCH_CHECKPOINT / "model.safetensors").is_file(), reason="no trained checkpoint here"
)
def test_the_arm_obeys_and_it_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that is too slow, or busy with other things, says so and gets more time."""
    from rosbags.highlevel import AnyReader

    from pi0_ros.bags.messages import message_types

    out, file = tmp_path / "out", tmp_path / "figures.json"
    for speed in ("1", "0.3", "0.1"):
        file.unlink(missing_ok=True)
        status = main(["--out", str(out), "--json", str(file), "--speed", speed, "--overwrite"])
        printed, errors = capsys.readouterr()
        assert file.is_file(), errors
        found = json.loads(file.read_text())
        if status == 0:
            break
    assert found["successes"] >= 2, printed
    assert status == (0 if found["successes"] == 3 else 1)
    # Two for each instruction; a quiet machine makes about twenty.
    assert found["chunks"] >= 6 and found["trajectories"] >= 6
    assert found["age_ms"]["p50"] > 0 and found["inference_ms"]["p50"] > 0
    assert found["overhead_ms"]["p50"] is not None
    assert f"{found['successes']} of 3" in printed

    assert (out / "demo.gif").stat().st_size <= 1_500_000
    assert (out / "demo.png").stat().st_size <= 300_000
    with AnyReader([out / "bag"], default_typestore=message_types()) as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
        told = [
            bag.deserialize(data, connection.msgtype).data
            for connection, _, data in bag.messages()
            if connection.topic == "/instruction"
        ]
    assert told == [attempt["instruction"] for attempt in found["instructions"]]
    assert counts["/pi0/action_chunk"] >= found["chunks"]
    for topic in ("/front/image_raw/compressed", "/wrist/image_raw/compressed", "/joint_states"):
        assert counts[topic] > 50, topic
    for topic in ("/pi0/joint_trajectory", "/diagnostics", "/sim/touched", "/robot_description"):
        assert counts[topic] >= 1, topic
