"""What tests of several rooms share."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT
from support.domains import free_domain
from support.process import Process

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.sizes import SIZES_KEY
from pi0_ros.checkpoint.steps import POSTPROCESSOR, PREPROCESSOR
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.model.config import TINY, TINY_PI05

# What tests start in processes of their own imports this tree too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH")))
)

# A thread each: tests run in parallel, and threads of small products wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# Triton's kernels run in its interpreter, on CPU tensors; it is asked for before its first import.
os.environ["TRITON_INTERPRET"] = "1"

# ROS traffic of the tests stays on this machine.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

pytest_plugins = ["support.recordings"]

MARKS = {"ros": "ros", "e2e": "ros", "reference": "reference", "npu": "npu"}
"""Folder of test/ -> the mark of all tests in it."""


LONG = ("reference", "npu", "e2e", "examples", "benchmarks", "ros")
"""Folders with files of a minute: they begin first, so that none of them is alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and let files that take long begin first."""
    for item in items:
        if mark := MARKS.get(_folder(item)):
            item.add_marker(mark)
    order = {name: place for place, name in enumerate(LONG)}
    compiling = {item.path for item in items if item.get_closest_marker("compile")}
    items.sort(key=lambda item: (order.get(_folder(item), len(LONG)), item.path not in compiling))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / "test").parts[0]


# A busy machine is no fault of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def own_domain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test over DDS starts is alone in its ROS domain: another node `pi0` would hold it up.

    Commands that choose a domain themselves could choose that of a test that is just beginning.
    """
    if request.node.get_closest_marker("ros"):
        monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory: tiny model, random weights, tokenizer. Do not write to it."""
    from pi0_ros.checkpoint.random import write_random_checkpoint

    path = tmp_path_factory.mktemp("demo") / "checkpoint"
    write_random_checkpoint(path, TINY)
    return path


@pytest.fixture(scope="session")
def demo_pi05(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of pi0.5."""
    from pi0_ros.checkpoint.random import write_random_checkpoint

    path = tmp_path_factory.mktemp("demo") / "pi05"
    write_random_checkpoint(path, TINY_PI05)
    return path


@pytest.fixture
def start_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """start_process(command, **options of Process) -> Process, killed with the test."""
    folder = tmp_path_factory.mktemp("processes")
    running: list[Process] = []

    def start(command: Sequence[str | Path], **options: Any) -> Process:
        running.append(Process(command, folder / f"{len(running)}.log", **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture
def as_openpi() -> Callable[..., Path]:
    """Turns a checkpoint directory of LeRobot 0.4's format into one of openpi's PyTorch port."""
    return _as_openpi


def _as_openpi(path: Path, padded: bool = False) -> Path:
    """Turn a checkpoint of the new LeRobot format into one of openpi's PyTorch port."""
    tensors = load_file(path / WEIGHTS)
    save_file({k.removeprefix("model."): v for k, v in tensors.items()}, path / WEIGHTS)
    document = json.loads((path / CONFIG).read_text())
    sizes = document[SIZES_KEY]
    (path / CONFIG).write_text(
        json.dumps(
            {
                "action_dim": 32,
                "action_horizon": 50,
                "paligemma_variant": "gemma_2b",
                "action_expert_variant": "gemma_300m",
                "precision": "bfloat16",
                SIZES_KEY: sizes,
            }
        )
    )
    for name in (PREPROCESSOR, POSTPROCESSOR):
        (path / name).unlink()
    values = np.arange(1.0, 7.0)
    if padded:
        values = np.pad(values, (0, 26))
    statistics = {"mean": list(values), "std": list(values / 2), "q01": list(values)}
    assets = path / "assets" / "so101"
    assets.mkdir(parents=True)
    (assets / "norm_stats.json").write_text(
        json.dumps({"norm_stats": {"state": statistics, "actions": statistics}})
    )
    return path
