"""`pi0 compile --calibrate` on a small recording; float8 as PyTorch computes it on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from support.recordings import SIX, arm_at_work, write_bag, write_params

from pi0_ros.cli import main
from pi0_ros.compile import calibrate
from pi0_ros.model.ops import onednn
from pi0_ros.model.quantised import CalibrationError
from pi0_ros.policy import device, graph_cache, graphs
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.graph_cache import read_calibration
from pi0_ros.policy.policy import Policy

Compile = Callable[..., tuple[int, dict]]


@pytest.fixture
def compiled(demo_checkpoint: Path, tmp_path: Path) -> Compile:
    bag = write_bag(tmp_path / "bag", arm_at_work(seconds=1.0, joints=SIX))
    params = write_params(tmp_path / "six.yaml", SIX)

    def run(precision: str) -> tuple[int, dict]:
        figures = tmp_path / "figures.json"
        status = main(
            [
                *("compile", "--checkpoint", str(demo_checkpoint), "--cache", f"{tmp_path}/cache"),
                *("--device", "cpu", "--graph", "eager", "--precision", precision),
                *("--calibrate", str(bag), "--params", str(params), "--json", str(figures)),
            ]
        )
        return status, json.loads(figures.read_text()) if figures.is_file() else {}

    return run


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a CPU were a card with float8, whose backend has modules that can be observed."""
    for module in (device, graphs):
        monkeypatch.setattr(module, "check_precision", lambda *given: None)
    monkeypatch.setattr(onednn, "supported", lambda dtype: False)


def test_int8_is_tried_on_a_recording(
    compiled: Compile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, figures = compiled("int8")
    assert status == 0
    assert figures["precision"] == "int8" and figures["cosine"]["observations"] == 9
    assert 0.99 <= figures["cosine"]["least"] <= figures["cosine"]["mean"] < 1
    assert "least 0.99" in capsys.readouterr().out
    assert not (tmp_path / "cache" / graph_cache.CALIBRATION).exists(), "it needs no scales"


def test_float8_is_calibrated_and_then_loads(
    compiled: Compile, on_a_cpu: None, tmp_path: Path, demo_checkpoint: Path
) -> None:
    status, figures = compiled("float8")
    assert status == 0 and 0.99 <= figures["cosine"]["least"] < 0.9999999
    calibration = read_calibration(tmp_path / "cache")
    assert len(calibration.inputs) == 2 * 4 + 3 * 4 + 1
    options = GraphOptions("eager", cache=tmp_path / "cache", precision="float8")
    assert Policy.load(demo_checkpoint, graph=options).graphs.model.ops.precision == "float8"
    # The scales of other weights, or none at all, or a broken file.
    file = tmp_path / "cache" / graph_cache.CALIBRATION
    for content, words in (
        ({"weights": "0", "inputs": {}}, "were made of other weights"),
        ({"weights": "0", "inputs": {"a": float("nan")}}, "is no calibration"),
        ([], "is no calibration"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(CalibrationError, match=words):
            Policy.load(demo_checkpoint, graph=options)
    file.unlink()
    with pytest.raises(CalibrationError, match="needs scales of recorded observations"):
        Policy.load(demo_checkpoint, graph=options)


def test_a_missed_gate_is_the_status(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate, "GATE", 1.0)
    status, figures = compiled("int8")
    assert status == 1 and figures["cosine"]["least"] < 1.0
    assert "(at least 1.0: MISSED)" in capsys.readouterr().out


def test_what_does_not_go_together_is_one_sentence(
    compiled: Compile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled("float8")[0] == 1
    assert "precision 'float8' on device 'cpu': it is for GPUs of NVIDIA" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compiled("full")
    assert "--calibrate is for --precision int8 and float8" in capsys.readouterr().err


def test_a_long_recording_is_thinned_out() -> None:
    watcher = calibrate._Watcher(3)
    for number in range(1000):
        state = [float(number)] * 3
        watcher.infer(calibrate.Observation({}, state, "go", number))
    seen = [observation.stamp for observation in watcher.observations]
    assert calibrate.MOST <= len(seen) <= 2 * calibrate.MOST
    assert seen[0] == 0 and seen[-1] > 900
    assert len({b - a for a, b in pairwise(seen)}) == 1, "evenly"
