"""Which messages make an observation, and why the others do not."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.harness import configure, header

from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.images import ImageError
from pi0_ros.node.observation import LONGEST_INSTRUCTION, ObservationBuffer
from pi0_ros.node.stream_health import FUTURE_TOLERANCE, REMEMBERED

MS = 1_000_000
NOW = 1_700_000_000_000_000_000  # float64 seconds would lose nanoseconds here


def image(stamp: int, content: str = "abcdef", **changes):
    """An image of 2 x 1 pixels."""
    fields = {"width": 2, "height": 1, "step": 6, "encoding": "rgb8", "is_bigendian": 0}
    data = content.encode()
    return SimpleNamespace(header=header(stamp), data=data, **(fields | changes))


def joint_state(stamp: int = 0, velocity=(), **positions: float):
    names, values = list(positions), list(positions.values())
    return SimpleNamespace(header=header(stamp), name=names, position=values, velocity=velocity)


def filled(front=NOW, wrist=NOW, joints=NOW, **changes) -> ObservationBuffer:
    buffer = ObservationBuffer(configure(**changes), lambda: NOW)
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
    pixels = np.zeros((2, 2, 3), np.uint8)
    observation = snapshot.observation(lambda message: pixels)
    assert list(observation.images) == ["front", "wrist"]
    assert observation.images["front"] is pixels
    assert (observation.stamp, observation.instruction) == (snapshot.stamp, snapshot.instruction)


def test_live_parameters_count_from_the_next_tick_on():
    buffer = filled(wrist=NOW - 60 * MS)
    buffer.set_parameters(configure(max_skew=0.05))
    assert refusal(buffer).reason == "skewed"
    buffer.set_parameters(configure(camera__wrist__max_age=0.05))
    assert refusal(buffer).reason == "stale"
    buffer.set_parameters(configure(joint_states_max_age=0.01))
    assert buffer.measured(NOW + 20 * MS) is None
    buffer.set_parameters(configure(camera__front__latency=0.03))
    buffer.put_image("front", image(NOW))
    assert buffer.snapshot(NOW).image_stamps["front"] == NOW - 30 * MS


def test_the_joint_state_can_be_the_oldest_part():
    assert filled(joints=NOW - 50 * MS).snapshot(NOW).stamp == NOW - 50 * MS


def test_newest_message_counts():
    buffer = filled()
    buffer.put_image("front", image(NOW - 1, "second"))
    assert buffer.snapshot(NOW).images["front"].data == b"second"


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


def test_a_message_s_text_is_not_repeated_whole():
    """It would stand in every diagnostics and every log line of the refusals to come."""
    long = "x" * 100_000
    buffer = filled(front=None, joints=None)
    buffer.put_image("front", image(NOW, encoding=long))
    strangers = joint_state(NOW, **{f"{long}{i}": 0.0 for i in range(100)})
    buffer.put_joint_state(strangers)
    details = [status.detail for status in buffer.statuses(NOW)]
    assert max(map(len, details)) < 3000 and "and 80 more" in details[2]
    twice = joint_state(NOW, pan=0.0)
    twice.name, twice.position = ["pan", *[long] * 2], [0.0] * 3
    buffer.put_joint_state(twice)
    assert len(buffer.statuses(NOW)[2].detail) < 3000


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
    buffer.put_instruction("fold")
    buffer.clear()
    error = refusal(buffer)
    assert error.reason == "missing" and "instruction" not in error.detail
    assert "front" in error.detail and "joint states" in error.detail


def test_malformed_joint_state_names_topic_and_joint():
    buffer = filled()
    buffer.put_joint_state(joint_state(NOW, pan=1.0, lift=float("nan"), gripper=3.0))
    error = refusal(buffer)
    assert error.reason == "malformed"
    assert "joint_states" in error.detail and "['lift']" in error.detail


def test_malformed_image_names_the_camera():
    def decode(message):
        if message.encoding == "bgr8":
            raise ImageError("nobody reads it")
        return np.zeros((1, 1, 3), np.uint8)

    buffer = filled()
    buffer.put_image("wrist", image(NOW, encoding="bgr8"))
    with pytest.raises(Refusal) as caught:
        buffer.snapshot(NOW).observation(decode)
    assert caught.value.reason == "malformed"
    assert caught.value.detail == "camera wrist: nobody reads it"
    assert caught.value.stream == "camera wrist"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"step": 5}, "step is 5 bytes"),
        ({"width": 0}, "size 0 x 1"),
        ({"height": 2}, "6 bytes of data"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused_until_a_good_one_comes(changes, says):
    buffer = filled()
    buffer.put_image("front", image(NOW, **changes))
    error = refusal(buffer)
    assert error.reason == "malformed" and says in error.detail
    assert "camera front (front/image_raw)" in error.detail
    assert status(buffer, "camera front").level == "error"
    buffer.put_image("front", image(NOW))
    buffer.snapshot(NOW)


def test_compressed_without_data_is_malformed():
    buffer = filled(front=None, wrist=None, image_transport="compressed")
    message = SimpleNamespace(header=header(NOW), format="jpeg", data=b"")
    buffer.put_image("front", message)
    buffer.put_image("wrist", SimpleNamespace(header=header(NOW), format="jpeg", data=b"x"))
    assert refusal(buffer).reason == "malformed"


def test_what_others_found_wrong_counts():
    buffer = filled()
    buffer.reject("front", "malformed", "9 bytes that are no Image")
    error = refusal(buffer)
    assert error.detail == "camera front (front/image_raw): 9 bytes that are no Image"
    buffer.put_image("front", image(NOW))
    buffer.reject("joint states", "malformed", "no message")
    assert "joint states (joint_states): no message" in refusal(buffer).detail
    buffer.reject("instruction", "malformed", "no text")
    assert status(buffer, "instruction").dropped == {"malformed": 1}


# Time -------------------------------------------------------------------------------------------


def test_joints_are_interpolated_to_the_oldest_image():
    buffer = filled(front=NOW - 20 * MS, wrist=NOW - 5 * MS, joints=None)
    for age, pan in ((40, 0.0), (30, 1.0), (10, 3.0), (0, 9.0)):
        buffer.put_joint_state(joint_state(NOW - age * MS, pan=pan, lift=0.0, gripper=-pan))
    snapshot = buffer.snapshot(NOW)
    np.testing.assert_allclose(snapshot.state, [2.0, 0.0, -2.0], atol=1e-12)
    assert snapshot.state_stamp == snapshot.stamp == NOW - 20 * MS


def test_nothing_is_extrapolated():
    buffer = filled(front=NOW, wrist=NOW, joints=None)
    for age, pan in ((60, 1.0), (50, 2.0)):
        buffer.put_joint_state(joint_state(NOW - age * MS, pan=pan, lift=0.0, gripper=0.0))
    snapshot = buffer.snapshot(NOW)
    assert (snapshot.state[0], snapshot.state_stamp) == (2.0, NOW - 50 * MS)


def test_latency_is_taken_off_the_stamp():
    buffer = filled(camera__front__latency=0.05)
    assert buffer.snapshot(NOW).image_stamps == {"front": NOW - 50 * MS, "wrist": NOW}
    assert refusal(filled(front=NOW - 160 * MS, camera__front__latency=0.05)).reason == "stale"


def frames(buffer, count, step=10 * MS, content=lambda i: "abcdef"):
    for i in range(count):
        buffer.put_image("front", image(NOW - (count - 1 - i) * step, content(i)))


def test_an_image_repeated_byte_for_byte_is_a_dead_camera():
    buffer = filled(front=None, frozen_frames=4)
    frames(buffer, 4)
    buffer.snapshot(NOW)
    buffer = filled(front=None, frozen_frames=4)
    frames(buffer, 5)
    error = refusal(buffer)
    assert error.reason == "frozen" and "in 5 frames" in error.detail
    assert status(buffer, "camera front").level == "error"
    buffer.put_image("front", image(NOW, "others"))
    buffer.snapshot(NOW)


def test_images_that_change_are_not_frozen_and_one_sent_twice_is_one():
    buffer = filled(front=None, frozen_frames=3)
    frames(buffer, 20, content=lambda i: f"{i % 2:06}")
    buffer.snapshot(NOW)
    buffer = filled(front=None, frozen_frames=3)
    frames(buffer, 20, step=0)
    buffer.snapshot(NOW)
    buffer = filled(front=None, frozen_frames=0)
    frames(buffer, 20)
    buffer.snapshot(NOW)


@pytest.mark.parametrize("stream", ["camera", "joints"])
def test_stamps_that_go_back_begin_anew(stream):
    """A bag that loops without a clock: no half of an observation is from before."""
    buffer = filled()
    epoch = buffer.epoch
    back = NOW - 101 * MS
    if stream == "camera":
        buffer.put_image("front", image(back))
    else:
        buffer.put_joint_state(joint_state(back, pan=1.0, lift=2.0, gripper=3.0))
    assert buffer.epoch == epoch + 1
    assert refusal(buffer).reason == "missing"
    buffer = filled()
    buffer.put_image("front", image(NOW - 100 * MS))
    assert buffer.epoch == 0, "a little late is no new recording"


def test_measured_is_the_newest_state_with_its_velocities():
    buffer = filled(joints=None)
    assert buffer.measured(NOW) is None
    for i in range(5):
        values = {"pan": 0.01 * i, "lift": 0.0, "gripper": -0.02 * i}
        buffer.put_joint_state(joint_state(NOW + (i - 4) * 10 * MS, **values))
    measured = buffer.measured(NOW)
    np.testing.assert_allclose(measured.positions, [0.04, 0.0, -0.08])
    np.testing.assert_allclose(measured.velocities, [1.0, 0.0, -2.0], atol=1e-9)
    told = joint_state(NOW, velocity=[7.0, 8.0, 9.0], gripper=1.0, pan=2.0, lift=3.0)
    buffer = filled(joints=None)
    buffer.put_joint_state(told)
    np.testing.assert_array_equal(buffer.measured(NOW).velocities, [8.0, 9.0, 7.0])
    assert buffer.measured(NOW + 201 * MS) is None, "too old to act on"
    assert buffer.measured(NOW - 101 * MS) is None, "from the future"


# The instruction --------------------------------------------------------------------------------


def test_instructions():
    buffer = filled()
    assert buffer.put_instruction("fold") == "" and buffer.instruction == "fold"
    problem = buffer.put_instruction("x" * (LONGEST_INSTRUCTION + 1))
    assert "1001 characters" in problem and buffer.instruction == "fold"
    assert status(buffer, "instruction").dropped == {"malformed": 1}
    assert "empty" in buffer.put_instruction(" \n") and buffer.instruction == "fold"
    assert buffer.snapshot(NOW).instruction == "fold"
    assert refusal(filled(instruction="")).detail == "no instruction"


# What is told -----------------------------------------------------------------------------------


def status(buffer: ObservationBuffer, name: str, now: int = NOW):
    return next(s for s in buffer.statuses(now) if s.name == name)


def test_statuses_of_streams_that_are_well():
    told = filled().statuses(NOW)
    names = ["camera front", "camera wrist", "joint states", "instruction"]
    assert [s.name for s in told] == names
    assert {s.level for s in told} == {"ok"}
    assert told[0].topic == "front/image_raw" and told[0].age == 0.0 and told[0].received == 1


def test_levels_of_streams():
    buffer = filled(front=None, wrist=NOW - 300 * MS, joints=NOW + 300 * MS, instruction="")
    front, wrist, joints, instruction = buffer.statuses(NOW)
    assert (front.level, wrist.level, joints.level) == ("stale", "stale", "error")
    assert front.detail.startswith("missing: no image") and front.age is None
    assert wrist.detail.startswith("stale: ") and wrist.dropped == {"stale": 1}
    assert "in the future" in joints.detail
    assert instruction.level == "stale"


def test_a_message_dropped_just_now_is_a_warning():
    buffer = filled()
    buffer.put_image("front", image(NOW, step=5))
    buffer.put_image("front", image(NOW))
    told = status(buffer, "camera front")
    assert told.level == "warn" and "malformed" in told.detail and told.received == 3
    later = NOW + REMEMBERED + 1
    filled_later = status(buffer, "camera front", later)
    assert filled_later.level == "stale", "nothing came since"


def test_rate():
    now = [NOW]
    buffer = ObservationBuffer(configure(), lambda: now[0])
    for i in range(31):
        now[0] = NOW + i * 33 * MS
        buffer.put_image("front", image(now[0], f"{i:06}"))
    assert status(buffer, "camera front", now[0]).rate == pytest.approx(1000 / 33)
    assert status(buffer, "camera front", now[0] + 10**10).rate is None
