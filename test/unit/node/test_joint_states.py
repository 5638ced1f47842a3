"""Joint states in messages, from one or several publishers and topics, and what contradicts."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.harness import configure, header
from support.jtc import limits_of

from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.joint_states import JointStateReader, UnusableJoints
from pi0_ros.node.observation import ObservationBuffer

MS = 1_000_000
NOW = 1_700_000_000_000_000_000  # float64 seconds would lose nanoseconds here


def joint_state(stamp: int = 0, velocity=(), **positions: float):
    names, values = list(positions), list(positions.values())
    return SimpleNamespace(header=header(stamp), name=names, position=values, velocity=velocity)


def image(stamp: int):
    """An image of 2 x 1 pixels."""
    fields = {"width": 2, "height": 1, "step": 6, "encoding": "rgb8", "is_bigendian": 0}
    return SimpleNamespace(header=header(stamp), data=b"abcdef", **fields)


# What a message says --------------------------------------------------------------------------


def test_positions_in_the_order_asked_for():
    message = joint_state(a=1.0, b=2.0, c=3.0, extra=float("nan"))
    reading = JointStateReader(["c", "a", "b"]).read(message)
    np.testing.assert_array_equal(reading.positions, [3.0, 1.0, 2.0])
    assert reading.columns == (0, 1, 2) and reading.velocities is None


def test_some_of_the_joints_in_another_order_among_others():
    reader = JointStateReader(["a", "b", "c", "d"])
    for _ in range(2):  # the second time the names are known
        message = joint_state(velocity=[1.0, 2.0, 3.0], d=0.4, wheel=9.0, b=0.2)
        reading = reader.read(message)
        assert reading.columns == (1, 3)
        np.testing.assert_array_equal(reading.positions, [0.2, 0.4])
        np.testing.assert_array_equal(reading.velocities, [3.0, 1.0])


@pytest.mark.parametrize("velocity", [[], [1.0], [1.0, float("nan")]])
def test_velocities_that_are_not_all_told_are_none(velocity):
    message = joint_state(velocity=velocity, a=1, b=2)
    assert JointStateReader(["a", "b"]).read(message).velocities is None


def test_other_joints_and_no_positions_say_nothing():
    reader = JointStateReader(["a", "b"])
    assert reader.read(joint_state(wheel=1.0)) is None
    assert reader.read(SimpleNamespace(name=["a", "b"], position=[], velocity=[])) is None


@pytest.mark.parametrize(
    ("names", "positions", "says"),
    [
        (["a", "b"], [1.0], "2 names but 1 positions"),
        (["a", "b"], [1.0, 2.0, 3.0], "2 names but 3 positions"),
        (["a", "b", "a"], [1.0, 2.0, 3.0], r"more than once: \['a'\]"),
        (["b", "a"], [1.0, float("nan")], r"not finite: \['a'\]"),
        (["b", "a"], [float("-inf"), 1.0], r"not finite: \['b'\]"),
        (["b", "a"], [1e16, 1.0], r"beyond 1e\+06 rad: \['b'\]"),
    ],
)
def test_bad_joint_states(names, positions, says):
    with pytest.raises(UnusableJoints, match=says) as caught:
        JointStateReader(["a", "b"]).read(SimpleNamespace(name=names, position=positions))
    assert set(caught.value.columns) <= {0, 1}


# Parts of a state ------------------------------------------------------------------------------


class Parts:
    """A buffer whose joint states come in parts, at a time that goes on."""

    def __init__(self, publishers=None, limits=None, **changes):
        self.now = NOW
        self.buffer = ObservationBuffer(configure(**changes), lambda: self.now, limits, publishers)

    def put(self, topic="joint_states", stamp=None, velocity=(), **positions):
        message = joint_state(self.now if stamp is None else stamp, velocity, **positions)
        self.buffer.put_joint_state(message, topic)

    def images(self, stamp=None):
        for camera in ("front", "wrist"):
            self.buffer.put_image(camera, image(self.now if stamp is None else stamp))

    def snapshot(self):
        return self.buffer.snapshot(self.now)

    def refusal(self) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.snapshot()
        return caught.value

    def status(self):
        return next(s for s in self.buffer.statuses(self.now) if s.name == "joint states")


@pytest.mark.parametrize("topics", [["joint_states"], ["arm/joint_states", "gripper/joint_states"]])
def test_joints_from_several_publishers(topics):
    parts = Parts(joint_states_topics=topics)
    for _ in range(5):
        parts.put(topics[0], pan=1.0, lift=2.0)
        parts.now += 5 * MS
        parts.put(topics[-1], gripper=3.0)
        parts.now += 5 * MS
    parts.images()
    snapshot = parts.snapshot()
    np.testing.assert_array_equal(snapshot.state, [1.0, 2.0, 3.0])
    assert snapshot.state_stamp == parts.now - 10 * MS, "as old as the oldest part"
    assert parts.status().level == "ok" and not parts.status().dropped


def test_each_part_is_interpolated_at_the_image():
    parts = Parts()
    for ms in range(0, 100, 10):
        parts.now = NOW + ms * MS
        parts.put(pan=ms / 100, lift=-ms / 100)
        if ms % 40 == 3 or ms % 40 == 0:
            parts.put(stamp=parts.now + 3 * MS, gripper=2 * (ms + 3) / 100)
    parts.images(NOW + 55 * MS)
    snapshot = parts.snapshot()
    np.testing.assert_allclose(snapshot.state, [0.55, -0.55, 1.1])
    assert snapshot.state_stamp == NOW + 55 * MS
    measured = parts.buffer.measured(parts.now)
    assert measured.stamp == NOW + 83 * MS, "the newest time of which all are known"
    np.testing.assert_allclose(measured.positions, [0.83, -0.83, 1.66])


def test_a_missing_part_is_named_with_its_joints():
    parts = Parts()
    parts.put(pan=1.0, lift=2.0)
    parts.images()
    error = parts.refusal()
    assert error.reason == "missing" and "with ['gripper']" in error.detail
    assert parts.buffer.measured(parts.now) is None
    parts.put(gripper=3.0)
    parts.snapshot()
    parts.now += 300 * MS
    parts.put(pan=1.0, lift=2.0)
    parts.images()
    error = parts.refusal()
    assert error.reason == "stale", "of one part"
    assert "joint states (joint_states), ['gripper']: 0.300 s old" in error.detail
    assert parts.buffer.measured(parts.now) is None


def test_a_bad_part_stays_bad_until_a_good_one_comes():
    parts = Parts()
    parts.put(pan=1.0, lift=2.0)
    parts.put(gripper=float("nan"))
    parts.put(gripper=3.0)
    parts.put(gripper=float("nan"))
    parts.put(pan=1.0, lift=2.0)
    parts.images()
    error = parts.refusal()
    assert error.reason == "malformed" and "['gripper']" in error.detail
    parts.put(gripper=3.0)
    parts.snapshot()


def test_effort_alone_is_no_fault_but_is_told_where_positions_lack():
    parts = Parts()
    effort = SimpleNamespace(
        header=header(NOW), name=["pan", "lift", "gripper"], position=[], velocity=[]
    )
    parts.images()
    parts.buffer.put_joint_state(effort)
    assert "the last message names ['pan', 'lift', 'gripper'] without" in parts.refusal().detail
    parts.put(pan=1.0, lift=2.0, gripper=3.0)
    parts.buffer.put_joint_state(effort)
    parts.snapshot()
    assert parts.status().level == "ok"


def test_joint_states_at_5_hz_say_what_they_need():
    parts = Parts(joint_states_max_age=0.5)
    for _ in range(20):
        parts.put(pan=1.0, lift=2.0, gripper=3.0)
        parts.now += 200 * MS
    parts.images(parts.now - 20 * MS)
    error = parts.refusal()
    assert error.reason == "skewed" and "at 5.0 Hz they need a max_skew of 0.30 s" in error.detail
    parts.buffer.set_parameters(configure(joint_states_max_age=0.5, max_skew=0.3))
    assert parts.snapshot().state_stamp == parts.now - 200 * MS


@pytest.mark.parametrize("low", [-np.pi, 0.0])
def test_an_angle_wraps_the_shorter_way_and_stays_as_told(low):
    speed, parts = 0.5, Parts()

    def angle(ms):
        return (low + 2 * np.pi - 0.1 + speed * ms / 1e3 - low) % (2 * np.pi) + low

    for ms in range(0, 500, 10):
        parts.now = NOW + ms * MS
        parts.put(pan=angle(ms), lift=0, gripper=0)
        parts.images(parts.now - 7 * MS)
        if ms >= 10:
            assert parts.snapshot().state[0] == pytest.approx(angle(ms - 7), abs=1e-9)
        if ms >= 30:
            measured = parts.buffer.measured(parts.now)
            assert measured.velocities[0] == pytest.approx(speed)
            assert measured.positions[0] == pytest.approx(angle(0) + speed * ms / 1e3)


TWO = {"joint_states": ["/arm/joint_state_broadcaster", "/joint_state_publisher"]}


@pytest.mark.parametrize("pattern", ["rz", "rrzz", "rrrrz", "zr", "rrrzzz", "zzr"])
@pytest.mark.parametrize("far", [1.57, 0.2])
def test_two_publishers_of_one_joint_are_named(pattern, far):
    parts = Parts(lambda topic: TWO[topic])
    found = ""
    for k in range(100):
        parts.now += 5 * MS
        other = pattern[k % len(pattern)] == "z"
        parts.put(pan=0.0 if other else -far, lift=0.001 * k, gripper=0.0)
        parts.images()
        found = found or parts.status().detail
    error = parts.refusal()
    assert error.reason == "malformed"
    assert "pan is" in error.detail and "in turn" in error.detail
    assert "2 publishers contradict each other: /arm/joint_state_broadcaster on" in error.detail
    assert "/joint_state_publisher on joint_states" in error.detail
    measured = parts.buffer.measured(parts.now)
    assert measured.jumps and "in turn" in measured.fault
    # One of them ends: the state is that of the other, and what was found stays counted.
    for _ in range(500):
        parts.now += 5 * MS
        parts.put(pan=0.0, lift=0.1, gripper=0.0)
    parts.images()
    assert parts.snapshot().state[0] == 0.0
    assert parts.buffer.measured(parts.now).jumps >= measured.jumps


def test_two_topics_with_one_joint_are_named():
    topics = ["arm/joint_states", "other/joint_states"]
    parts = Parts(lambda topic: [f"/of/{topic}"], joint_states_topics=topics)
    for _ in range(20):
        parts.now += 5 * MS
        parts.put(topics[0], pan=1.0, lift=2.0, gripper=0.5)
        parts.put(topics[1], gripper=0.0)
    parts.images()
    detail = parts.refusal().detail
    assert "gripper is" in detail and all(f"/of/{t} on {t}" in detail for t in topics)


def test_publishers_that_agree_are_no_fault():
    parts = Parts(lambda topic: TWO[topic])
    for k in range(200):
        parts.now += 5 * MS
        angle = 0.5 * np.sin(parts.now % 10**9 / 1e9 * 6)
        noise = 0.005 * (-1) ** k
        parts.put(pan=angle + noise, lift=0.0, gripper=angle)
        parts.put(stamp=parts.now - 2 * MS, gripper=angle)
    parts.images()
    parts.snapshot()
    assert parts.status().level == "ok" and not parts.buffer.measured(parts.now).jumps


def test_one_publisher_whose_encoder_fails_now_and_then_is_no_contradiction():
    parts = Parts(lambda topic: ["/arm"], limits=limits_of(3, velocity=3.0))
    for k in range(400):
        parts.now += 5 * MS
        parts.put(pan=1.0 if k % 100 == 50 else 0.0, lift=0.0, gripper=0.0)
    parts.images()
    assert parts.snapshot().state[0] == 0.0
    assert parts.status().dropped == {"malformed": 4}
    assert not parts.buffer.measured(parts.now).jumps


def test_one_publisher_that_sends_both_is_told():
    parts = Parts(lambda topic: ["/arm"])
    for k in range(100):
        parts.now += 5 * MS
        parts.put(pan=k % 2, lift=0.0, gripper=0.0)
    assert "its only publisher, /arm on joint_states, sends both" in parts.status().detail


def test_without_a_graph_the_values_tell():
    parts = Parts()
    for k in range(100):
        parts.now += 5 * MS
        parts.put(pan=k % 2, lift=0.0, gripper=0.0)
    assert "do two publishers contradict each other on joint_states?" in parts.status().detail


def test_publishers_with_clocks_of_their_own_are_named():
    parts = Parts(lambda topic: TWO[topic])
    for _ in range(10):
        parts.now += 5 * MS
        parts.put(pan=0.0, lift=0.0, gripper=0.0)
        parts.put(stamp=parts.now - 150 * MS, pan=0.0, lift=0.0, gripper=0.0)
    detail = parts.status().detail
    assert "stamps go back and forth by 0.150 s: 2 publishers" in detail
    epoch = parts.buffer.epoch
    parts.put(pan=0.0, lift=0.0, gripper=0.0)
    assert parts.buffer.epoch == epoch <= 3, "it no longer counts as a recording that begins anew"


def test_a_clock_that_jumps_ends_a_contradiction():
    parts = Parts()
    for k in range(100):
        parts.now += 5 * MS
        parts.put(pan=k % 2, lift=0.0, gripper=0.0)
    parts.now -= 10**10
    parts.buffer.clear()
    parts.put(pan=0.0, lift=0.0, gripper=0.0)
    parts.images()
    parts.snapshot()
