"""Who holds the emergency stop, by publishers that can be told apart and that cannot."""

import pytest

from pi0_ros.motion.emergency_stop import SILENCE, EmergencyStop

A, B = b"a", b"b"
ONE, TWO = {A: "/button"}, {A: "/button", B: "/light_curtain"}


@pytest.mark.parametrize("sender", [None, A])
def test_one_publisher_releases_what_it_held(sender):
    stop = EmergencyStop()
    stop.hear(False, sender, 1, ONE, 0.0)
    assert not stop.held
    stop.hear(True, sender, 2, ONE, 0.0)
    assert stop.held and "/button holds it" in stop.release(ONE, 100.0) and stop.held
    stop.hear(False, sender, 3, ONE, 0.1)
    assert not stop.held and stop.release(ONE, 0.1) == ""


@pytest.mark.parametrize("sender", [None, A])
def test_an_older_false_releases_nothing(sender):
    """A latched message of before, or one that arrives a second time."""
    stop = EmergencyStop()
    stop.hear(True, sender, 5, ONE, 0.0)
    stop.hear(False, sender, 4, ONE, 0.1)
    stop.hear(False, sender, 5, ONE, 0.1)
    assert stop.held
    stop.hear(False, sender, 0, ONE, 0.2)
    assert not stop.held, "this middleware tells no time"


def test_publishers_that_are_told_apart_hold_their_own():
    stop = EmergencyStop()
    stop.hear(True, A, 1, TWO, 0.0)
    stop.hear(True, B, 1, TWO, 0.0)
    stop.hear(False, B, 2, TWO, 0.1)
    assert stop.held and "/button holds it" in stop.release(TWO, 100.0)
    stop.hear(False, A, 2, TWO, 0.2)
    assert not stop.held


def test_a_false_of_one_of_several_releases_nothing():
    stop = EmergencyStop()
    stop.hear(True, None, 10, TWO, 0.0)
    for k in range(10):
        stop.hear(False, None, 11 + k, TWO, 0.1 * k)
    assert stop.held
    problem = stop.release(TWO, 1.0)
    assert "the last true came 1.0 s ago, from one of /button, /light_curtain" in problem
    stop.hear(True, None, 30, TWO, 1.5)  # it is held down
    assert stop.release(TWO, 3.0) and stop.held
    assert stop.release(TWO, 1.5 + SILENCE) == "" and not stop.held


def test_another_publisher_does_not_release_what_one_that_has_gone_held():
    stop = EmergencyStop()
    stop.hear(True, None, 10, {A: "/button"}, 0.0)
    stop.hear(False, None, 11, {B: "/light_curtain"}, 0.5)
    assert stop.held and stop.release({B: "/light_curtain"}, 1.0)
    assert stop.release({B: "/light_curtain"}, SILENCE) == ""


@pytest.mark.parametrize("sender", [None, A])
def test_a_publisher_that_has_gone_holds_until_a_reset(sender):
    stop = EmergencyStop()
    stop.hear(True, sender, 10, ONE, 0.0)
    assert "/button" in stop.release({}, 1.0) and stop.held
    assert stop.release({}, SILENCE) == "" and not stop.held


def test_a_stop_before_the_graph_knows_its_publisher():
    stop = EmergencyStop()
    stop.hear(True, None, 10, {}, 0.0)
    assert "a publisher that has gone" in stop.release({}, 1.0)
    stop.hear(False, None, 11, ONE, 1.0)
    assert not stop.held
