"""The gate through which trajectories go out."""

import pytest

from pi0_ros.motion.enable import Gate


def test_closed_until_enabled():
    gate = Gate()
    assert not gate.enabled
    assert gate.enable(0.0) == "" and gate.enabled
    assert gate.disable() and not gate.enabled
    assert not gate.disable(), "it was closed already"
    assert gate.latched == "" and gate.enable(0.0) == ""


def test_emergency_stop_latches():
    gate = Gate()
    gate.enable(0.0)
    assert gate.emergency_stop(True) and not gate.enabled
    assert not gate.emergency_stop(True), "closed already"
    assert "emergency" in gate.enable(0.0)
    assert "still on" in gate.reset() and gate.latched
    assert not gate.emergency_stop(False)
    assert "~/reset" in gate.enable(0.0) and not gate.enabled, "off alone opens nothing"
    assert gate.reset() == "" and not gate.enabled, "a reset enables nothing"
    assert gate.enable(0.0) == "" and gate.enabled


def test_emergency_stop_before_enabling():
    gate = Gate()
    assert not gate.emergency_stop(True)
    assert gate.enable(0.0) and not gate.enabled


def test_deadman():
    gate = Gate(deadman_timeout=0.2)
    assert "heartbeat" in gate.enable(10.0), "nobody holds it"
    gate.beat(10.0)
    assert gate.enable(10.1) == ""
    assert not gate.check_deadman(10.2)
    gate.beat(10.2)
    assert not gate.check_deadman(10.39)
    assert gate.check_deadman(10.5) and not gate.enabled
    assert "0.30 s" in gate.latched
    gate.beat(10.5)
    assert "~/reset" in gate.enable(10.5), "a beat alone opens nothing"
    assert gate.reset() == "" and gate.enable(10.5) == ""


def test_without_a_deadman_no_beat_is_needed():
    gate = Gate()
    gate.enable(0.0)
    assert not gate.check_deadman(1e9) and gate.enabled


def test_rejections_in_a_row_latch():
    gate = Gate()
    gate.enable(0.0)
    assert not gate.rejected(3, "a") and not gate.rejected(3, "b")
    gate.passed()
    assert not gate.rejected(3, "c") and not gate.rejected(3, "d") and gate.enabled
    assert gate.rejected(3, "joint lift") and not gate.enabled
    assert "3 rejected" in gate.latched and "joint lift" in gate.latched
    gate.reset()
    gate.enable(0.0)
    assert not gate.rejected(3, "e"), "the row begins anew"


def test_rejections_of_a_dry_run_do_not_latch():
    gate = Gate()
    assert not any(gate.rejected(1, "x") for _ in range(5))
    assert gate.enable(0.0) == ""


@pytest.mark.parametrize("second", ["emergency", "latch"])
def test_the_first_reason_stays(second):
    gate = Gate()
    gate.enable(0.0)
    gate.latch("the first")
    _ = gate.emergency_stop(True) if second == "emergency" else gate.latch("the second")
    assert gate.latched == "the first"
