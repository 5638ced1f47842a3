"""`pi0 compile` on a CPU, with a compiler that is quick."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from pi0_ros.cli import main
from pi0_ros.model.ops import cuda
from pi0_ros.model.ops.ascend import ATTENTION_KERNELS
from pi0_ros.model.quantised import PRECISIONS
from pi0_ros.policy import graphs
from pi0_ros.policy.compile import FORMS, GRAPHS, GraphOptions
from pi0_ros.policy.policy import DTYPES, Policy
from pi0_ros.profile.load_options import add_load_options


def compile_(*arguments: object) -> int:
    return main(["compile", *map(str, arguments)])


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

    monkeypatch.setattr(graphs, "compile_module", quick)
    cache, figures = tmp_path / "cache", tmp_path / "figures.json"
    arguments = ["--checkpoint", demo_checkpoint, "--cache", cache, "--device", "cpu"]
    assert compile_(*arguments, "--json", figures) == 0
    written = json.loads(figures.read_text())
    assert set(written["inference_s"]) == {"eager", "inductor"}
    assert {name for name, _ in compiled} == {"inductor"}
    assert len(compiled) == 3, "one graph per prompt length"
    assert f"graph auto will be {written['chosen']}" in capsys.readouterr().out
    policy = Policy.load(demo_checkpoint, graph=GraphOptions("auto", "frame", cache))
    assert policy.graphs.options.graph == written["chosen"]


def test_one_compiler_can_be_named(demo_checkpoint: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--checkpoint", demo_checkpoint, "--cache", tmp_path / "cache"]
    compile_(*arguments, "--device", "cpu", "--graph", "eager", "--json", figures)
    written = json.loads(figures.read_text())
    assert written["chosen"] == "eager"
    assert written["inference_s"]["eager"] > 0


def test_errors_are_sentences(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", demo_checkpoint, "--cache", tmp_path / "cache"]
    assert compile_(*arguments, "--device", "cpu", "--cameras", "nose") == 1
    assert compile_("--checkpoint", "/nowhere", "--cache", tmp_path) == 1
    assert compile_(*arguments, "--device", "cpu", "--graph", "torchair") == 1
    lines = capsys.readouterr().err
    assert "pi0 compile: " in lines and "['nose'] are not the checkpoint's" in lines
    assert "config.json is missing" in lines
    assert "needs an NPU" in lines
    assert "Traceback" not in lines


def test_choices_are_those_of_the_policy() -> None:
    """They stand in the command, too, since importing the policy's takes seconds."""
    parser = argparse.ArgumentParser()
    add_load_options(parser)
    choices = {action.dest: action.choices for action in parser._actions if action.choices}
    assert set(choices["graph"]) == set(GRAPHS)
    assert set(choices["form"]) == set(FORMS)
    assert set(choices["attention"]) == set(ATTENTION_KERNELS)
    assert set(choices["precision"]) == set(PRECISIONS)
    assert set(choices["kernels"]) == set(cuda.CHOICES)
    assert set(choices["dtype"]) == set(DTYPES)
