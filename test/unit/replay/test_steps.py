"""The node's work on a recording, tick by tick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.recordings import (
    SIX,
    START,
    THREE,
    FakePolicy,
    arm_at_work,
    image,
    joint_state,
    motion,
    write_bag,
    write_params,
)

from pi0_ros.bags.bag import BagError
from pi0_ros.bags.chunks import EXECUTED, REJECTED
from pi0_ros.node.preflight import load_limits
from pi0_ros.replay.case import check_case, node_arguments, open_case
from pi0_ros.replay.steps import Moved, Published, Steps

TENTH = 100_000_000


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Steps through messages: run(entries, policy=, params=, **options) -> (steps, events)."""

    monkeypatch.setattr("pi0_ros.replay.case.preflight", lambda *_: [])

    def call(entries, policy=None, params=None, types=(), **options):
        path = tmp_path / f"bag{len(list(tmp_path.iterdir()))}"
        bag = write_bag(path, entries, types=dict(types))
        file = write_params(tmp_path / "params.yaml", **(params or {}))
        case = open_case(bag, node_arguments(tmp_path, [file], []))
        check_case(case)
        policy = policy or FakePolicy(case.parameters)
        limits = load_limits(case.parameters)
        steps = Steps(case.interface, case.topics, policy, limits=limits, **options)
        events = list(steps.run(case.bag.messages(case.types)))
        return steps, events, policy

    return call


def times(events) -> list[float]:
    return [(event.time - START) / 1e9 for event in events if isinstance(event, Published)]


def test_ticks_lie_on_a_grid_from_the_first_message_and_see_what_was_received(run):
    steps, events, policy = run(arm_at_work(seconds=1.0))
    # The first tick comes before the images; the last joint state is 0.99 s after the first.
    assert times(events) == pytest.approx([0.1 * k for k in range(1, 10)])
    assert steps.counters[-1].ticks == 10
    assert steps.counters[-1].refused == {"missing": 1}
    assert steps.first_refused["missing"][0] == START
    assert policy.resets == 1
    for number, event in enumerate(events):
        # The images of 53 ms after the tick before, and where the joints were then.
        assert event.snapshot.image_stamps["front"] == START + number * TENTH + 53_000_000
        assert event.snapshot.image_stamps["wrist"] == START + number * TENTH + 57_000_000
        expected = motion(number / 10 + 0.053, 3)
        np.testing.assert_allclose(event.snapshot.state, expected, atol=1e-4)
        assert policy.seen[number].images["front"][0, 0, 0] == 7 * number
        assert event.chunk.stamp == event.snapshot.stamp


def test_a_message_received_at_the_time_of_a_tick_is_seen_by_it(run):
    _, events, _ = run(arm_at_work(seconds=0.5, camera_offset=0.0))
    assert times(events)[0] == 0.1, "the wrist's first image comes 4 ms after the first tick"
    assert events[0].snapshot.image_stamps["front"] == START + TENTH


def test_noise_is_that_of_the_tick_so_that_a_refused_one_changes_no_other(run):
    whole = run(arm_at_work(seconds=1.0))[1]
    broken = image(START, 0)
    broken.step = 7
    bad = [(START + 260_000_000, "/front/image_raw", broken)]
    steps, events, _ = run([*arm_at_work(seconds=1.0), *bad])
    assert steps.counters[-1].refused == {"missing": 1, "malformed": 1}
    assert "step is 7 bytes" in steps.first_refused["malformed"][1]
    assert [e.chunk.sequence for e in whole] == list(range(1, 10))
    assert [e.chunk.sequence for e in events] == [1, 2, 4, 5, 6, 7, 8, 9]
    for event in events:
        partner = next(e for e in whole if e.chunk.sequence == event.chunk.sequence)
        np.testing.assert_array_equal(event.chunk.positions, partner.chunk.positions)


def test_a_latency_makes_ticks_busy_and_publishes_later(run):
    steps, events, _ = run(arm_at_work(seconds=1.0), latency=0.15)
    assert times(events) == pytest.approx([0.25, 0.45, 0.65, 0.85, 1.05])
    final = steps.counters[-1]
    assert (final.ticks, final.busy, final.chunks) == (10, 4, 5)
    assert final.idle
    # A chunk that is published exactly when a tick comes does not make it busy.
    steps, events, _ = run(arm_at_work(seconds=1.0), latency=0.1)
    assert (steps.counters[-1].busy, len(events)) == (0, 9)


def test_bytes_that_are_no_message_are_malformed_as_in_the_node(run):
    # Long enough for a header, too short for an image.
    cut = [(START + 260_000_000, "/front/image_raw", bytes([0, 1, 0, 0]) + bytes(30))]
    steps, events, _ = run([*arm_at_work(seconds=0.6), *cut])
    assert steps.counters[-1].refused == {"missing": 1, "malformed": 1}
    assert "bytes that are no sensor_msgs/msg/Image" in steps.first_refused["malformed"][1]
    assert len(events) == 4
    with pytest.raises(BagError, match="of 6 bytes on /front/image_raw cannot hold a header"):
        run([(START, "/front/image_raw", bytes(6)), *arm_at_work(seconds=0.3)])


def test_a_frozen_camera_is_refused_as_in_the_node(run):
    entries = [
        (time, topic, image(time, 3) if topic == "/front/image_raw" else message)
        for time, topic, message in arm_at_work(seconds=1.0)
    ]
    steps, events, _ = run(entries, params={"frozen_frames": 3})
    assert steps.counters[-1].refused == {"missing": 1, "frozen": 6}
    assert len(events) == 3


@pytest.mark.parametrize(
    ("spoil", "reason", "text"),
    [
        (lambda chunk: 1 / 0, "failed", "ZeroDivisionError"),
        (lambda chunk: chunk.positions.__setitem__((4, 1), np.nan), "nonfinite", "joint elbow"),
    ],
)
def test_what_a_policy_does_wrong_is_refused_as_in_the_node(run, spoil, reason, text):
    class Spoilt(FakePolicy):
        dt, seed, offset, resets = 0.02, 0, 0.0, 0

        def __init__(self):
            self.seen = []

        def infer(self, observation, noise=None):
            chunk = super().infer(observation, noise)
            if len(self.seen) == 3:
                spoil(chunk)
            return chunk

    steps, events, _ = run(arm_at_work(seconds=1.0), policy=Spoilt())
    assert steps.counters[-1].refused == {"missing": 1, reason: 1}
    assert text in steps.first_refused[reason][1]
    assert len([event for event in events if event.verdict != REJECTED]) == 8


def limits_file(path: Path) -> Path:
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: -2.0, max_position: 2.0,"
        " has_velocity_limits: true, max_velocity: 3.0}\n"
        for joint in THREE
    ]
    path.write_text("joint_limits:\n" + "".join(lines))
    return path


def test_chunks_beyond_the_limits_are_refused_in_a_dry_run_too(run, tmp_path):
    limits = str(limits_file(tmp_path / "limits.yaml"))

    class Far(FakePolicy):
        dt, seed, offset, resets = 0.02, 0, 1.0, 0  # further than max_jump

        def __init__(self):
            self.seen = []

    steps, events, _ = run(arm_at_work(seconds=1.0), Far(), {"joint_limits": limits})
    assert {event.verdict for event in events} == {REJECTED} and len(events) == 9
    assert events[0].reason.startswith("limits: joint ")
    assert (steps.counters[-1].chunks, steps.counters[-1].refused["limits"]) == (0, 9)


def test_trajectories_begin_where_the_arm_is_and_stop_when_images_stay_away(run, tmp_path):
    limits = str(limits_file(tmp_path / "limits.yaml"))
    entries = arm_at_work(seconds=2.0, camera_seconds=1.0)
    steps, events, _ = run(entries, params={"joint_limits": limits}, enable=True)
    moved = [event for event in events if isinstance(event, Moved)]
    chunks = [event for event in events if isinstance(event, Published)]
    assert len(moved) == len(chunks) + 1, "a stop at the end"
    assert [m.time for m in moved[:-1]] == [c.time for c in chunks]
    # The node looks every 20 ms, and the trajectory has been left alone for starve_timeout.
    assert 0 < moved[-1].time - chunks[-1].time - 500_000_000 <= 20_000_000
    assert list(moved[-1].trajectory.velocities[-1]) == [0.0] * 3
    first = moved[0].trajectory
    here = motion((moved[0].time - START) / 1e9, 3)
    np.testing.assert_allclose(first.positions[0], here, atol=0.06)
    assert {chunk.verdict for chunk in chunks} == {EXECUTED}
    assert steps.counters[-1].trajectories == len(chunks)
    assert steps.latched == ""
    assert steps.counters[-1].refused == {"missing": 1, "stale": 8}


def test_five_rejected_chunks_latch_as_in_the_node(run, tmp_path):
    limits = str(limits_file(tmp_path / "limits.yaml"))

    class Leaves(FakePolicy):
        dt, seed, resets = 0.02, 0, 0
        offset = property(lambda self: 1.0 if 3 <= len(self.seen) <= 8 else 0.0)

        def __init__(self):
            self.seen = []

    entries = arm_at_work(seconds=2.0)
    steps, events, _ = run(entries, Leaves(), {"joint_limits": limits}, enable=True)
    assert "5 rejected chunks in a row" in steps.latched
    moved = [event.time for event in events if isinstance(event, Moved)]
    chunks = times(events)
    assert len(moved) == 3, "two trajectories, and the stop at the latch"
    assert chunks[-1] > 1.8, "chunks go on"


@pytest.mark.parametrize("topics", [["/joint_states"], ["/joint_states", "/gripper/states"]])
def test_joint_states_in_parts_make_the_same_observations(run, topics):
    entries = arm_at_work(seconds=1.0)
    whole = [event.snapshot for event in run(entries)[1]]
    parts = []
    for at, topic, message in entries:
        if topic == "/joint_states":
            first, last = list(message.name)[:-1], list(message.name)[-1:]
            stamp = header_stamp_of(message)
            position = np.array(message.position)
            parts.append((at, topics[-1], joint_state(stamp, last, position[-1:])))
            message = joint_state(stamp, first, position[:-1])
        parts.append((at, topic, message))
    types = dict.fromkeys(topics, "sensor_msgs/msg/JointState")
    steps, events, _ = run(parts, params={"joint_states_topics": topics}, types=types)
    assert len(events) == len(whole) == 9 and steps.counters[-1].refused == {"missing": 1}
    for event, expected in zip(events, whole, strict=True):
        np.testing.assert_array_equal(event.snapshot.state, expected.state)
        assert event.snapshot.state_stamp == expected.state_stamp


def header_stamp_of(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_two_publishers_of_one_joint_are_told(run):
    entries = arm_at_work(seconds=2.0)
    zeros = [
        (at + 3_000_000, topic, joint_state(at + 3_000_000, THREE, np.full(3, 0.8)))
        for at, topic, _ in entries
        if topic == "/joint_states"
    ]
    steps, _, _ = run(sorted([*entries, *zeros], key=lambda entry: entry[0]))
    assert "in turn: do two publishers contradict each other" in steps.first_refused["malformed"][1]


def test_another_robots_joints_are_explained(run):
    states = [
        (START + k * 10_000_000, "/joint_states", joint_state(START, SIX, motion(0.0, 6)))
        for k in range(5)
    ]
    others = [entry for entry in arm_at_work(seconds=0.3) if entry[1] != "/joint_states"]
    with pytest.raises(BagError) as caught:
        run([*others, *states])
    text = str(caught.value)
    assert "do not name the 3 joints of the parameters" in text
    assert "(6 joints)" in text and "missing:  shoulder, elbow" in text
