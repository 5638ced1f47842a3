"""Which messages make an observation, and why the others do not."""

from types import SimpleNamespace

import numpy as np
import pytest
from node_harness import configure, header

from pi0_ros.node.images import ImageError
from pi0_ros.node.observe import FUTURE_TOLERANCE, ObservationBuffer, positions_of
from pi0_ros.node.refusal import Refusal

MS = 1_000_000
NOW = 1_700_000_000_000_000_000  # float64 seconds would lose nanoseconds here


def image(stamp: int, content: str = ""):
    return SimpleNamespace(header=header(stamp), content=content)


def joint_state(stamp: int = 0, **positions: float):
    names, values = list(positions), list(positions.values())
    return SimpleNamespace(header=header(stamp), name=names, position=values)


def filled(front=NOW, wrist=NOW, joints=NOW, **changes) -> ObservationBuffer:
    buffer = ObservationBuffer(configure(**changes))
    if front is not None:
        buffer.put_image("front", image(front))
    if wrist is not None:
        buffer.put_image("wrist", image(wrist))
    if joints is not None:
        buffer.put_joint_state(joint_state(joints, pan=1.0, lift=2.0, gripper=3.0))
    return buffer


def refusal(buffer: ObservationBuffer, now: int = NOW) -> Refusal:
    with pytest.raises(Refusal) as caught:
        buffer.snapshot(now)
    return caught.value


def test_a_complete_observation():
    snapshot = filled(front=NOW - 7, wrist=NOW - 30 * MS, joints=NOW - 5).snapshot(NOW)
    assert snapshot.stamp == NOW - 30 * MS, "as old as its oldest part"
    assert snapshot.image_stamps == {"front": NOW - 7, "wrist": NOW - 30 * MS}
    assert snapshot.state_stamp == NOW - 5
    assert snapshot.instruction == "touch the red cube"
    np.testing.assert_array_equal(snapshot.state, [1.0, 2.0, 3.0])
    picture = np.zeros((2, 2, 3), np.uint8)
    observation = snapshot.observation(lambda message: picture)
    assert list(observation.images) == ["front", "wrist"]
    assert observation.images["front"] is picture
    assert (observation.stamp, observation.instruction) == (snapshot.stamp, snapshot.instruction)


def test_the_joint_state_can_be_the_oldest_part():
    assert filled(joints=NOW - 50 * MS).snapshot(NOW).stamp == NOW - 50 * MS


def test_newest_message_counts():
    buffer = filled()
    buffer.put_image("front", image(NOW - 1, "second"))
    assert buffer.snapshot(NOW).images["front"].content == "second"


def test_missing_names_every_stream():
    error = refusal(filled(wrist=None, joints=None, instruction="  "))
    assert error.reason == "missing"
    assert "camera wrist (wrist/image_raw)" in error.detail
    assert "joint states (joint_states)" in error.detail
    assert "no instruction" in error.detail
    assert "front" not in error.detail


def test_joint_states_of_other_robots_are_ignored():
    buffer = filled()
    buffer.put_joint_state(joint_state(NOW, wheel_left=5.0, wheel_right=6.0))
    np.testing.assert_array_equal(buffer.snapshot(NOW).state, [1.0, 2.0, 3.0])
    buffer = filled(joints=None)
    buffer.put_joint_state(joint_state(NOW, shoulder=5.0))
    error = refusal(buffer)
    assert error.reason == "missing" and "['shoulder']" in error.detail


def test_a_stale_joint_state_tells_of_strangers_that_came_after_it():
    def detail(*later, joints=NOW - 300 * MS) -> str:
        buffer = filled(front=NOW - 300 * MS, joints=joints)
        for message in later:
            buffer.put_joint_state(message)
        return refusal(buffer).detail

    stranger = joint_state(NOW, shoulder=5.0)
    assert detail(stranger).endswith("allowed are 0.200 s; the last message names ['shoulder']")
    assert "shoulder" not in detail(stranger, joints=NOW), "the joint state is fresh"
    ours = joint_state(NOW - 250 * MS, pan=1.0, lift=2.0, gripper=3.0)
    assert "names" not in detail(stranger, ours)


@pytest.mark.parametrize(
    ("ages", "named"),
    [
        ({"front": 201}, "camera front"),
        ({"wrist": 501}, "camera wrist"),
        ({"joints": 101}, "joint states"),
    ],
)
def test_stale(ages, named):
    changes = {"camera__wrist__max_age": 0.5, "joint_states_max_age": 0.1, "max_skew": 9.0}
    buffer = filled(**{name: NOW - age * MS for name, age in ages.items()}, **changes)
    error = refusal(buffer)
    assert error.reason == "stale" and named in error.detail
    younger = {name: NOW - (age - 1) * MS for name, age in ages.items()}
    filled(**younger, **changes).snapshot(NOW)


def test_stale_names_every_stream_and_its_age():
    error = refusal(filled(front=NOW - 300 * MS, wrist=NOW - 10**12))
    assert "camera front (front/image_raw): 0.300 s old, allowed are 0.200 s" in error.detail
    assert "camera wrist (wrist/image_raw): 1000.000 s old" in error.detail


def test_stamps_from_the_future():
    filled(front=NOW + FUTURE_TOLERANCE, max_skew=1.0).snapshot(NOW)
    error = refusal(filled(front=NOW + FUTURE_TOLERANCE + 1, max_skew=1.0))
    assert error.reason == "stale" and "in the future" in error.detail


def test_an_unstamped_message_is_called_that():
    error = refusal(filled(joints=0))
    assert error.reason == "stale" and "no stamp" in error.detail


def test_skewed():
    filled(wrist=NOW - 100 * MS).snapshot(NOW)
    error = refusal(filled(wrist=NOW - 100 * MS - 1))
    assert error.reason == "skewed"
    assert error.detail.startswith("camera wrist (wrist/image_raw) is 0.100 s older than")
    error = refusal(filled(joints=NOW - 150 * MS))
    assert error.reason == "skewed" and "joint states" in error.detail


def test_clear_forgets_all_but_the_instruction():
    buffer = filled(instruction="")
    buffer.instruction = "fold"
    buffer.clear()
    error = refusal(buffer)
    assert error.reason == "missing" and "instruction" not in error.detail
    assert "front" in error.detail and "joint states" in error.detail


def test_malformed_joint_state_names_topic_and_joint():
    buffer = filled()
    buffer.put_joint_state(joint_state(NOW, pan=1.0, gripper=3.0))
    error = refusal(buffer)
    assert error.reason == "malformed"
    assert "joint_states" in error.detail and "['lift']" in error.detail


def test_malformed_image_names_the_camera():
    def decode(message):
        if message.content == "bad":
            raise ImageError("step is 3 bytes")
        return np.zeros((1, 1, 3), np.uint8)

    buffer = filled()
    buffer.put_image("wrist", image(NOW, "bad"))
    with pytest.raises(Refusal) as caught:
        buffer.snapshot(NOW).observation(decode)
    assert caught.value.reason == "malformed"
    assert caught.value.detail == "camera wrist: step is 3 bytes"


def test_positions_in_the_order_asked_for():
    message = joint_state(a=1.0, b=2.0, c=3.0, extra=float("nan"))
    np.testing.assert_array_equal(positions_of(message, ["c", "a", "b"]), [3.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("names", "positions", "says"),
    [
        (["a", "b"], [1.0], "2 names but 1 positions"),
        (["a", "b"], [], "2 names but 0 positions"),
        (["a", "b"], [1.0, 2.0, 3.0], "2 names but 3 positions"),
        (["a", "b", "a"], [1.0, 2.0, 3.0], r"more than once: \['a'\]"),
        (["a", "c"], [1.0, 2.0], r"joints missing: \['b'\]"),
        (["b", "a"], [1.0, float("nan")], r"not finite: \['a'\]"),
        (["b", "a"], [float("-inf"), 1.0], r"not finite: \['b'\]"),
    ],
)
def test_bad_joint_states(names, positions, says):
    with pytest.raises(ValueError, match=says):
        positions_of(SimpleNamespace(name=names, position=positions), ["a", "b"])
