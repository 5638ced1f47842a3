"""The policy as its users call it, on a tiny checkpoint with random weights."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.openpi import OPENPI_CAMERAS
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits, delta_mask

STATE = np.array([0.1, -0.5, 0.4, 1.1, 0.0, 0.5])
JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


def observation(seed: int = 0, cameras: tuple[str, ...] = ("front", "wrist")) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in cameras}
    return Observation(images, STATE, "touch the red cube", stamp=123)


@pytest.fixture(scope="module")
def policy(demo_checkpoint: Path) -> Policy:
    return Policy.load(demo_checkpoint, action_dt=0.04)


@pytest.fixture
def openpi_checkpoint(
    demo_checkpoint: Path, tmp_path: Path, as_openpi: Callable[[Path], Path]
) -> Path:
    return as_openpi(Path(shutil.copytree(demo_checkpoint, tmp_path / "openpi")))


def test_a_chunk_says_what_it_is(policy: Policy) -> None:
    policy.reset()
    chunk = policy.infer(observation())
    assert chunk.positions.shape == (50, 6)
    assert chunk.positions.dtype == np.float32
    assert np.isfinite(chunk.positions).all()
    assert (chunk.dt, chunk.stamp, chunk.sequence, chunk.seed) == (0.04, 123, 0, 0)
    assert list(chunk.stage_times) == ["prepare", "prefix", "denoise", "finish"]
    assert min(chunk.stage_times.values()) > 0
    assert chunk.inference_time == pytest.approx(sum(chunk.stage_times.values()))
    assert policy.infer(observation()).sequence == 1


def test_same_seed_same_bits(demo_checkpoint: Path, policy: Policy) -> None:
    policy.reset()
    first, second = policy.infer(observation()), policy.infer(observation())
    assert not np.array_equal(first.positions, second.positions)
    policy.reset()
    assert np.array_equal(policy.infer(observation()).positions, first.positions)
    again = Policy.load(demo_checkpoint)
    assert np.array_equal(again.infer(observation()).positions, first.positions)
    other = Policy.load(demo_checkpoint, seed=1)
    assert not np.array_equal(other.infer(observation()).positions, first.positions)


def test_noise_can_be_given(policy: Policy) -> None:
    policy.reset()
    own = policy.infer(observation()).positions
    given = policy.infer(observation(), noise=policy.noise(0)).positions
    assert np.array_equal(own, given)
    with pytest.raises(ValueError, match=r"noise must be \[50, 32\]"):
        policy.infer(observation(), noise=np.zeros((50, 6)))


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, images=dict(o.images, wrist=o.images["front"])),
        lambda o: replace(o, images={"front": o.images["wrist"], "wrist": o.images["front"]}),
        lambda o: replace(o, images=dict(o.images, front=o.images["front"][:, :, ::-1])),
        lambda o: replace(o, state=o.state + 0.3),
        lambda o: replace(o, state=o.state[::-1]),
        lambda o: replace(o, instruction="touch the blue cube"),
    ],
)
def test_every_part_of_an_observation_matters(
    policy: Policy, change: Callable[[Observation], Observation]
) -> None:
    noise = policy.noise(0)
    plain = policy.infer(observation(), noise).positions
    assert np.abs(policy.infer(change(observation()), noise).positions - plain).max() > 1e-3


def test_cameras_are_matched_by_name_not_by_order(policy: Policy) -> None:
    noise = policy.noise(0)
    swapped = observation()
    swapped = replace(swapped, images=dict(reversed(swapped.images.items())))
    a, b = policy.infer(observation(), noise), policy.infer(swapped, noise)
    assert np.array_equal(a.positions, b.positions)


def test_the_order_of_cameras_is_the_checkpoints(demo_checkpoint: Path) -> None:
    assert Policy.load(demo_checkpoint, cameras=["wrist", "front"]).cameras == ("front", "wrist")


def test_a_camera_can_be_left_out(demo_checkpoint: Path, policy: Policy) -> None:
    one = Policy.load(demo_checkpoint, cameras=["wrist"])
    chunk = one.infer(observation(cameras=("wrist",)))
    assert np.isfinite(chunk.positions).all()
    policy.reset()
    assert not np.allclose(chunk.positions, policy.infer(observation()).positions, atol=1e-3)


def test_units_surround_the_checkpoint(demo_checkpoint: Path, policy: Policy) -> None:
    """A robot in radians on a checkpoint in degrees: the model sees and says the same numbers."""
    scale, offset = np.full(6, np.pi / 180), np.linspace(-0.2, 0.2, 6)
    degrees = Policy.load(demo_checkpoint, joint_units=JointUnits(scale, offset))
    noise = policy.noise(0)
    in_degrees = policy.infer(observation(), noise).positions
    robot = replace(observation(), state=STATE * scale + offset)
    np.testing.assert_allclose(
        degrees.infer(robot, noise).positions, in_degrees * scale + offset, atol=1e-4
    )


def test_delta_actions_add_the_observed_state_except_to_the_gripper(
    openpi_checkpoint: Path,
) -> None:
    units = JointUnits.radians(6)
    mask = delta_mask(JOINTS, JOINTS[:5])
    absolute = Policy.load(openpi_checkpoint, action_mode="absolute", joint_units=units)
    delta = Policy.load(openpi_checkpoint, action_mode="delta", delta_mask=mask, joint_units=units)
    seen = observation(cameras=OPENPI_CAMERAS)
    difference = delta.infer(seen).positions - absolute.infer(seen).positions
    np.testing.assert_allclose(difference, np.broadcast_to([*STATE[:5], 0.0], (50, 6)), atol=1e-5)


def test_openpi_does_not_guess_the_action_mode(openpi_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="do not say whether actions are absolute or relative"):
        Policy.load(openpi_checkpoint, joint_units=JointUnits.radians(6))


def test_openpi_normalises_by_its_own_statistics(openpi_checkpoint: Path) -> None:
    """The state that equals the mean is 0 to the model, whatever the mean is."""
    read = read_checkpoint(openpi_checkpoint)
    policy = Policy.load(openpi_checkpoint, action_mode="absolute")
    seen = replace(observation(cameras=OPENPI_CAMERAS), state=read.state.offset)
    noise = np.zeros((50, 32), np.float32)
    chunk = policy.infer(seen, noise)
    normalized = (chunk.positions - read.action.offset) / read.action.scale
    assert np.abs(normalized).max() < 20


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(
    demo_checkpoint: Path, tmp_path: Path, value: float
) -> None:
    folder = Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("action_out_proj.weight"))
    weights[name].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        Policy.load(folder)


@pytest.mark.parametrize(
    "arguments,expected",
    [
        ({"cameras": ["front", "top"]}, "cameras ['top'] are not the checkpoint's"),
        ({"cameras": []}, "at least one camera"),
        ({"joint_units": JointUnits.radians(7)}, "7 joints are given, the checkpoint has 6"),
        ({"action_mode": "delta"}, "contradicts the checkpoint"),
        ({"action_mode": "relative"}, "must be 'absolute' or 'delta'"),
        ({"delta_mask": [True] * 6}, "delta_mask goes with action_mode 'delta'"),
        ({"action_dt": 0.0}, "action_dt must be positive"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16"),
    ],
)
def test_what_does_not_fit_is_refused(
    demo_checkpoint: Path, arguments: dict, expected: str
) -> None:
    with pytest.raises(ValueError) as error:
        Policy.load(demo_checkpoint, **arguments)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "change,expected",
    [
        (lambda o: replace(o, images={"front": o.images["front"]}), "lacks the cameras ['wrist']"),
        (lambda o: replace(o, state=np.zeros(5)), r"must be [6] in joint order, got [5]"),
        (
            lambda o: replace(o, images=dict(o.images, front=np.zeros((4, 4), np.uint8))),
            "[H, W, 3] uint8",
        ),
        (lambda o: replace(o, instruction=" "), "instruction is empty"),
    ],
)
def test_a_broken_observation_is_refused_and_not_counted(
    policy: Policy, change: Callable[[Observation], Observation], expected: str
) -> None:
    policy.reset()
    with pytest.raises(ValueError) as error:
        policy.infer(change(observation()))
    assert expected in str(error.value)
    assert policy.infer(observation()).sequence == 0


def test_old_instructions_leave_the_cache(policy: Policy) -> None:
    noise = policy.noise(0)
    first = policy.infer(observation(), noise)
    for i in range(70):
        policy._prompt(f"touch the red cube {i}", np.zeros(6))
    assert len(policy._prompts) <= 64
    assert np.array_equal(policy.infer(observation(), noise).positions, first.positions)
