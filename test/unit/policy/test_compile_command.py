"""pi0_compile on a CPU, with a compiler that is quick."""

import json
from pathlib import Path

import pytest
import torch

from pi0_ros.policy import compile as graph
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.compile_command import main
from pi0_ros.policy.policy import Policy


def test_auto_measures_and_the_node_follows(
    demo_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compiled = []

    def quick(module: torch.nn.Module, name: str, cache: Path | None) -> torch.nn.Module:
        compiled.append((name, cache))
        return module

    monkeypatch.setattr(graph, "_compile", quick)
    cache, figures = tmp_path / "cache", tmp_path / "figures.json"
    arguments = ["--checkpoint", str(demo_checkpoint), "--cache", str(cache), "--device", "cpu"]
    main([*arguments, "--json", str(figures)])
    written = json.loads(figures.read_text())
    assert set(written["inference_s"]) == {"eager", "inductor"}
    assert {name for name, _ in compiled} == {"inductor"}
    assert len(compiled) == 3, "one graph per prompt length"
    assert f"graph auto will be {written['chosen']}" in capsys.readouterr().out
    policy = Policy.load(demo_checkpoint, graph=GraphOptions("auto", "frame", cache))
    assert policy.graphs.options.graph == written["chosen"]


def test_one_compiler_can_be_named(demo_checkpoint: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--checkpoint", str(demo_checkpoint), "--cache", str(tmp_path / "cache")]
    main([*arguments, "--device", "cpu", "--graph", "eager", "--json", str(figures)])
    written = json.loads(figures.read_text())
    assert written["chosen"] == "eager"
    assert written["inference_s"]["eager"] > 0


def test_what_goes_wrong_is_one_line(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(demo_checkpoint), "--cache", str(tmp_path / "cache")]
    assert main([*arguments, "--device", "cpu", "--cameras", "nose"]) == 1
    assert main(["--checkpoint", "/nowhere", "--cache", str(tmp_path)]) == 1
    lines = capsys.readouterr().err
    assert "pi0_compile: " in lines and "['nose'] are not the checkpoint's" in lines
    assert "config.json is missing" in lines
    assert "Traceback" not in lines
