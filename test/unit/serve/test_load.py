"""What another process is told to load."""

import json

import pytest
from support.harness import configure

from pi0_ros.node.loading import load_arguments
from pi0_ros.serve.load import arguments_from_json, as_line


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"action_mode": "delta", "delta_joints": ["pan", "lift"], "threads": 2},
        {"joint__pan__scale": 0.5, "joint__pan__offset": -1.0, "graph_cache": "~/graphs"},
    ],
)
def test_arguments_survive_the_way_to_the_process(changes):
    arguments = load_arguments(configure(**changes))
    assert arguments_from_json(json.loads(as_line("m:f", arguments))["arguments"]) == arguments


def test_arguments_are_those_of_the_parameters():
    arguments = load_arguments(
        configure(action_mode="delta", delta_joints=["lift"], joint__lift__scale=0.1, seed=7)
    )
    assert arguments.delta_mask == (False, True, False)
    assert arguments.scale == (1.0, 0.1, 1.0) and arguments.offset == (0.0, 0.0, 0.0)
    assert (arguments.checkpoint, arguments.seed, arguments.cameras) == (
        "/fake",
        7,
        ("front", "wrist"),
    )
