"""Whether motion is enabled."""

import pytest

from pi0_ros.motion.enable import MotionEnable


def test_disabled_until_enabled():
    motion = MotionEnable()
    assert not motion.enabled
    assert motion.enable(0.0) == "" and motion.enabled
    assert motion.disable("asked for") and not motion.enabled
    assert not motion.disable("asked for"), "it was disabled already"
    assert motion.latched == "" and motion.enable(0.0) == ""


def test_emergency_stop_latches():
    motion = MotionEnable()
    motion.enable(0.0)
    assert motion.emergency_stop(True) and not motion.enabled
    assert not motion.emergency_stop(True), "disabled already"
    assert "emergency" in motion.enable(0.0)
    assert "still on" in motion.reset() and motion.latched
    assert not motion.emergency_stop(False)
    assert "~/reset" in motion.enable(0.0) and not motion.enabled, "off alone enables nothing"
    assert motion.reset() == "" and not motion.enabled, "a reset enables nothing"
    assert motion.enable(0.0) == "" and motion.enabled


def test_emergency_stop_before_enabling():
    motion = MotionEnable()
    assert not motion.emergency_stop(True)
    assert motion.enable(0.0) and not motion.enabled


def test_deadman():
    motion = MotionEnable(deadman_timeout=0.2)
    assert "heartbeat" in motion.enable(10.0), "nobody holds it"
    motion.heartbeat(10.0)
    assert motion.enable(10.1) == ""
    assert not motion.check_deadman(10.2)
    motion.heartbeat(10.2)
    assert not motion.check_deadman(10.39)
    assert motion.check_deadman(10.5) and not motion.enabled
    assert "0.30 s" in motion.latched
    motion.heartbeat(10.5)
    assert "~/reset" in motion.enable(10.5), "a heartbeat alone enables nothing"
    assert motion.reset() == "" and motion.enable(10.5) == ""


def test_a_refused_heartbeat_is_told():
    motion = MotionEnable(deadman_timeout=0.2)
    motion.refuse_heartbeat("stamped 30.000 s in the future")
    assert "(the last one was refused: stamped 30.000 s in the future)" in motion.enable(10.0)
    motion.heartbeat(10.0)
    assert motion.enable(10.0) == ""
    motion.refuse_heartbeat("stamped 30.000 s in the future")
    assert motion.check_deadman(10.3) and "in the future" in motion.latched


def test_without_a_deadman_no_heartbeat_is_needed():
    motion = MotionEnable()
    motion.enable(0.0)
    assert not motion.check_deadman(1e9) and motion.enabled


@pytest.mark.parametrize("second", ["emergency", "latch"])
def test_the_first_reason_stays(second):
    motion = MotionEnable()
    motion.enable(0.0)
    motion.latch("the first")
    _ = motion.emergency_stop(True) if second == "emergency" else motion.latch("the second")
    assert motion.latched == motion.cause == "the first"
