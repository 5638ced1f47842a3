"""When a controller goes over to a new trajectory, told from its references."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.controller_states import JOINTS, MS, START, references, trajectories

from pi0_ros.doctor.reaction import Reference, Sent, lag_of, measure, reference_of, sent_of


@pytest.mark.parametrize("ahead", [0, 2 * MS])
@pytest.mark.parametrize("way", [0, 5 * MS, 38 * MS])
def test_messages_that_come_before_the_splice_point_are_in_time(way: int, ahead: int) -> None:
    sent = trajectories(10)
    reaction = measure(sent, references(sent, way, ahead))
    assert (reaction.messages, reaction.late) == (9, 0)


@pytest.mark.parametrize("way", [60 * MS, 80 * MS])
def test_messages_that_come_after_it_are_late(way: int) -> None:
    sent = trajectories(10)
    reaction = measure(sent, references(sent, way))
    assert (reaction.messages, reaction.late) == (9, 9)
    assert way / 1e9 - 0.003 <= reaction.longest < way / 1e9


def test_nothing_is_told_of_what_cannot_be_told() -> None:
    sent = trajectories(10)
    assert measure(sent, []) is None
    assert measure(sent[:1], references(sent, 0)) is None
    same = [sent[0], Sent(sent[1].arrival, JOINTS, sent[0].motion)]
    assert measure(same, references(same, 0)) is None
    strangers = [Reference(r.time, ("a", "b"), r.positions) for r in references(sent, 0)]
    assert measure(sent, strangers) is None


@pytest.mark.parametrize("lag", [0, 30 * MS, 120 * MS])
def test_the_lag_is_where_command_and_measurement_are_nearest(lag: int) -> None:
    motion = trajectories(2)[0].motion
    noise = np.random.default_rng(0)
    found = []
    for time in range(START, START + 800 * MS, 10 * MS):
        measured = motion.sample(time - lag)[0] + noise.normal(0.0, 1e-4, 2)
        found.append(Reference(time, JOINTS, tuple(motion.sample(time)[0]), tuple(measured)))
    assert lag_of(found) == pytest.approx(lag / 1e9, abs=0.004)
    still = [Reference(r.time, JOINTS, (0.1, 0.2), (0.1, 0.2)) for r in found]
    assert lag_of(still) is None and lag_of(found[:5]) is None
    assert lag_of([Reference(r.time, JOINTS, r.positions) for r in found]) is None


def stamp(nanoseconds: int) -> SimpleNamespace:
    sec, nanosec = divmod(nanoseconds, 10**9)
    return SimpleNamespace(sec=sec, nanosec=nanosec)


def test_messages_are_read() -> None:
    point = SimpleNamespace(
        positions=(0.1, 0.2), velocities=(0.0, 1.0), time_from_start=stamp(20 * MS)
    )
    header = SimpleNamespace(stamp=stamp(START))
    message = SimpleNamespace(header=header, joint_names=list(JOINTS), points=[point])
    sent = sent_of(message, START + 5)
    assert sent.arrival == START + 5 and sent.motion.times.tolist() == [START + 20 * MS]
    message.header = SimpleNamespace(stamp=stamp(0))
    assert sent_of(message, START) is None, "it starts when the controller gets it"
    message.header, point.velocities = header, ()
    assert sent_of(message, START) is None


@pytest.mark.parametrize(("field", "measured"), [("reference", "feedback"), ("desired", "actual")])
def test_references_are_read(field: str, measured: str) -> None:
    header = SimpleNamespace(stamp=stamp(START))
    state = SimpleNamespace(header=header, joint_names=list(JOINTS))
    state.reference = SimpleNamespace(positions=())
    assert reference_of(state) is None
    setattr(state, field, SimpleNamespace(positions=(0.1, 0.2)))
    assert reference_of(state) == Reference(START, JOINTS, (0.1, 0.2))
    setattr(state, measured, SimpleNamespace(positions=(0.3, 0.4)))
    assert reference_of(state).measured == (0.3, 0.4)
