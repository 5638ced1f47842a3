"""Input that leads to no chunk, and what /diagnostics says of it; over real DDS on loopback."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from support.reports import assert_well_again, wait_for_report


@pytest.mark.parametrize("absent", ["wrist", "joints"])
def test_missing_stream(start, absent):
    robot = start()
    robot.send_all(skip=absent)
    robot.tick()
    robot.wait(lambda: robot.refused() == {"missing": 1}, "the refusal")
    assert not robot.policy.seen
    assert robot.chunk(), "the stream has come: chunks follow"
    assert robot.refused() == {"missing": 1}


def test_diagnostics_tell_counts_and_cause(start):
    robot = start()
    robot.send_all(skip="wrist")
    robot.tick()

    def of_this_tick() -> list:
        return [m for m in robot.diagnostics if m.header.stamp.nanosec == 150_000_000]

    robot.wait(of_this_tick, "a report at once")
    message = of_this_tick()[0]
    status = message.status[0]
    assert (status.name, status.hardware_id, status.level) == ("pi0: observations", "", b"\x01")
    assert "missing" in status.message and "wrist/image_raw" in status.message
    values = {pair.key: pair.value for pair in status.values}
    expected = {"ticks": "1", "busy": "0", "chunks": "0", "refused.missing": "1"}
    assert values.items() >= expected.items()
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == robot.now
    assert "front" not in status.message

    robot.chunk()
    heard = len(robot.diagnostics)
    robot.wait(lambda: len(robot.diagnostics) >= heard + 3, "three reports, simulated time at rest")
    last = robot.diagnostics[-1].status[0]
    assert {p.key: p.value for p in last.values}["chunks"] == "1"


def test_diagnostics_warn_while_an_inference_hangs(start):
    robot = start()
    robot.chunk()
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    text = wait_for_report(robot, b"\x01", "no chunk for", "the inference is still running")
    assert float(text.split()[3]) >= 1.0
    robot.policy.go_on.set()
    robot.wait(lambda: len(robot.trajectories) == 2, "the chunk")
    assert_well_again(robot)


def test_diagnostics_warn_while_the_clock_stands_still(start):
    robot = start()
    robot.chunk()
    wait_for_report(robot, b"\x01", "no chunk for", "no tick: is /clock published?")
    assert_well_again(robot)


def test_diagnostics_keep_the_text_of_the_last_refusals(start):
    robot = start(rate_hz=0.5)  # reports lie between the refusals, and silence is 6 s
    robot.send_all(skip="wrist")
    robot.tick(2.0)
    heard = len(robot.diagnostics)
    robot.wait(lambda: len(robot.diagnostics) >= heard + 3, "reports after the refusal")
    wait_for_report(robot, b"\x01", "refused (missing): no image on camera wrist")


def test_stale_camera(start):
    robot = start(camera__front__max_age=0.5, joint_states_max_age=5.0, max_skew=5.0)
    robot.chunk()
    robot.tick(0.4)  # the front camera is 0.5 s old, the wrist camera past its 0.2 s
    robot.wait(lambda: robot.refused() == {"stale": 1}, "the refusal")
    text = wait_for_report(robot, b"\x01", "stale", "wrist")
    assert "front" not in text
    assert len(robot.policy.seen) == 1
    robot.chunk()


def test_stamp_in_the_future_is_stale(start):
    robot = start()
    robot.send_all()
    robot.send(robot.cameras["front"], robot.image(np.zeros((4, 6, 3), np.uint8)), age=-1.0)
    robot.tick()
    robot.wait(lambda: robot.refused() == {"stale": 1}, "the refusal")


def test_skew_between_streams(start):
    robot = start(max_skew=0.05)
    robot.send_all()
    robot.send(robot.cameras["front"], robot.image(np.zeros((4, 6, 3), np.uint8)), age=0.06)
    robot.tick()
    robot.wait(lambda: robot.refused() == {"skewed": 1}, "the refusal")
    robot.chunk()


def test_malformed_input_is_survived(start):
    robot = start()
    robot.send_all()
    short = robot.image(np.zeros((4, 6, 3), np.uint8))
    short.data = short.data[:-1]
    robot.send(robot.cameras["front"], short)
    robot.tick()
    robot.wait(lambda: robot.refused() == {"malformed": 1}, "a short image")
    robot.send_all()
    robot.send(robot.cameras["front"], robot.image(np.zeros((4, 6, 2), np.uint8), "nv99"))
    robot.tick()
    robot.wait(lambda: robot.refused() == {"malformed": 2}, "an unknown encoding")
    robot.send_all()
    robot.send(robot.joints, robot.state(pan=0.1, lift=float("nan"), gripper=0.3))
    robot.tick()
    robot.wait(lambda: robot.refused() == {"malformed": 3}, "a bad joint state")
    robot.send_all()
    assert not robot.policy.seen
    robot.chunk()
