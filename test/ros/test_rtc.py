"""Real-time chunking in the node: which chunks are given a prefix, and what is told of it."""

import numpy as np
import pytest
from support.harness import DT, HORIZON, GuidedPolicy

pytest.importorskip("rclpy")
String = pytest.importorskip("std_msgs.msg").String


def positions_of(trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Times in nanoseconds and positions of the points."""
    stamp = trajectory.header.stamp.sec * 10**9 + trajectory.header.stamp.nanosec
    times = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in trajectory.points]
    return stamp + np.array(times), np.array([p.positions for p in trajectory.points])


def test_a_chunk_agrees_with_the_trajectory_that_was_sent_and_tells_it(start):
    policy = GuidedPolicy()
    robot = start(policy, rtc="guided", rtc_schedule="linear", blend=0.0)
    # The first chunk has nothing to agree with, and its delay does not count; nor has the second.
    for told in ("no chunk was executed since the activation", "no delay was measured yet"):
        robot.chunk()
        assert (robot.chunks[-1].rtc, robot.chunks[-1].rtc_fallback) == (0, told)
        assert not robot.chunks[-1].rtc_weights
    sent = robot.chunk()
    chunk, prefix = robot.chunks[-1], policy.prefixes[-1]
    assert policy.prefixes[:2] == [None, None]
    assert (chunk.rtc, chunk.rtc_fallback) == (chunk.RTC_GUIDED, "")
    # The observation is 0.1 s old when the chunk comes, and the splice point 0.04 s later at least.
    assert chunk.rtc_delay == prefix.delay == 7
    np.testing.assert_allclose(chunk.rtc_weights, prefix.weights)
    assert list(prefix.weights[:7]) == [1] * 7 and 0 < prefix.weights[7] < 1
    assert prefix.positions.shape == (HORIZON, 3)

    times, points = positions_of(robot.trajectories[-2])
    stamp = chunk.header.stamp.sec * 10**9 + chunk.header.stamp.nanosec
    due = stamp + round(DT * 1e9) * np.arange(1, 11)
    for column in range(3):
        expected = np.interp(due, times, points[:, column])
        np.testing.assert_allclose(prefix.positions[:10, column], expected, atol=2e-3)

    robot.wait(lambda: robot.diagnostics, "diagnostics")
    robot.diagnostics.clear()
    robot.wait(lambda: robot.diagnostics, "diagnostics of now")
    values = {v.key: v.value for v in robot.status("real-time chunking").values}
    assert (values["mode"], values["used"], values["fallbacks"]) == ("guided", "1", "2")
    assert values["delay.7"] == "3" and values["fallback.first"] == "1"
    assert sent is robot.trajectories[-1]

    robot.instruction.publish(String(data="another task"))
    robot.wait(lambda: robot.node.loop.buffer.instruction == "another task", "the instruction")
    robot.chunk()
    assert robot.chunks[-1].rtc_fallback == "the executing trajectory is of another instruction"
    assert policy.prefixes[-1] is None
    robot.chunk()
    assert robot.chunks[-1].rtc == 1
    robot.node.loop.reset()
    robot.chunk()
    assert "an episode began" in robot.chunks[-1].rtc_fallback


def test_a_delay_beyond_the_training_is_blended_and_told(start):
    policy = GuidedPolicy(rtc_max_delay=6)
    robot = start(policy, rtc="trained")
    for _ in range(3):
        robot.chunk()
    told = "the delay is 7 steps, and this policy can be given at most 6"
    assert (robot.chunks[-1].rtc, robot.chunks[-1].rtc_fallback) == (0, told)
    assert robot.chunks[-1].verdict == robot.chunks[-1].EXECUTED
    assert policy.prefixes == [None] * 3
