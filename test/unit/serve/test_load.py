"""What another process is told to load."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from support.harness import configure

from pi0_ros.node.loading import load_arguments
from pi0_ros.policy.types import ActionPrefix
from pi0_ros.serve.process import prefix_as_json
from pi0_ros.serve.server import arguments_from_json, prefix_from_json


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
    assert arguments_from_json(json.loads(json.dumps(asdict(arguments)))) == arguments


def test_a_prefix_survives_the_way_to_the_process():
    numbers = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    prefix = ActionPrefix(numbers[:, :3], numbers[:, 3], delay=7, max_weight=4.5)
    back = prefix_from_json(json.loads(json.dumps(prefix_as_json(prefix))))
    assert (back.delay, back.max_weight) == (7, 4.5)
    for name in ("positions", "weights"):
        assert getattr(back, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(back, name), getattr(prefix, name))


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
