"""~/markers and ~/path over DDS on loopback, and what a robot description can do to the node."""

import threading
import time

import numpy as np
import pytest
from support.arm_urdf import arm_urdf, tool_places
from support.harness import DT, HORIZON, FakePolicy
from support.looker import Looker, publish_description
from support.waiting import wait_until

pytest.importorskip("rclpy")
pytest.importorskip("pinocchio")

# What FakePolicy makes of the harness's joint state.
CHUNK = np.array([0.1, 0.2, 0.3]) + 0.01 * np.outer(np.arange(1, HORIZON + 1), [1, 2, 3])


def places_of(marker) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in marker.points])


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "arm.urdf"
    path.write_text(arm_urdf())
    return str(path)


def test_a_chunk_is_seen(start, file):
    from visualization_msgs.msg import Marker

    robot = start(robot_description_file=file)
    looker = Looker(robot)
    robot.chunk()
    markers = looker.wait_for("chunk", "text")
    chunk = markers["chunk"]
    assert (chunk.type, chunk.action, chunk.header.frame_id) == (
        Marker.LINE_STRIP,
        Marker.ADD,
        "base",
    )
    assert len(chunk.colors) == len(chunk.points)
    # 0.1 s old: four steps were due when it came; the line begins at the last of them.
    np.testing.assert_allclose(places_of(chunk), tool_places(CHUNK)[4:], atol=1e-6)
    first, last = chunk.colors[0], chunk.colors[-1]
    assert first.b > 0.9 and first.r < 0.2 and last.r > 0.9 and last.g < 0.1
    assert markers["text"].type == Marker.TEXT_VIEW_FACING
    assert markers["text"].text == "touch the red cube\nchunk 0, 0.10 s old"

    wait_until(lambda: looker.paths, "the path")
    message = looker.paths[0]
    assert message.header.frame_id == "base" and len(message.poses) == HORIZON
    stamps = [p.header.stamp.sec * 10**9 + p.header.stamp.nanosec for p in message.poses]
    begin = robot.now - 100_000_000
    assert stamps == [begin + (i + 1) * round(DT * 1e9) for i in range(HORIZON)]
    positions = [(p.pose.position.x, p.pose.position.y) for p in message.poses]
    np.testing.assert_allclose(positions, tool_places(CHUNK)[:, :2], atol=1e-6)


def test_parts_are_told_apart(start, file):
    robot = start(robot_description_file=file)
    looker = Looker(robot, "markers")
    for _ in range(3):
        robot.chunk()
    markers = looker.wait_for("executed", "chunk", "replaced", "text")
    assert "passed" not in markers
    colours = {(m.color.r, m.color.g, m.color.b) for m in markers.values()}
    assert len(colours) == len(markers)


def test_a_dry_run_executes_nothing(start, file):
    robot = start(robot_description_file=file, start_enabled=False)
    looker = Looker(robot, "markers")
    for n in range(2):
        robot.send_all()
        robot.tick()
        robot.wait(lambda n=n: robot.node.counts.chunks == n + 1, "a chunk")
    robot.advance(0.05)
    assert "executed" not in looker.wait_for("passed", "chunk")


@pytest.mark.parametrize("reason", ["limits", "nonfinite"])
def test_a_rejected_chunk_is_seen_in_red(start, file, reason):
    far = {"limits": 2.0, "nonfinite": np.nan}[reason]

    def spoil(positions):
        spoilt = positions.copy()
        spoilt[10:, 0] += far
        spoilt[:, 0] += far if reason == "limits" else 0
        return spoilt

    robot = start(FakePolicy(spoil=spoil), robot_description_file=file)
    looker = Looker(robot, "markers")
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {reason: 1}, "the refusal")
    markers = looker.wait_for("rejected", "text")
    assert "chunk" not in markers
    assert len(markers["rejected"].points) == (HORIZON if reason == "limits" else 10)
    assert markers["rejected"].color.r > 0.9
    assert f"rejected: {reason}: " in markers["text"].text


def test_markers_go_on_without_new_chunks(start, file):
    """Time goes on in them, and RViz removes markers that are not published again."""
    robot = start(robot_description_file=file, starve_timeout=60.0)
    looker = Looker(robot, "markers")
    robot.chunk()
    looker.wait_for("chunk")
    left = len(looker.namespaces()["chunk"].points)
    robot.node.loop._tick_timer.cancel()
    robot.advance(0.5)
    wait_until(lambda: len(looker.namespaces()["chunk"].points) == left - 25, "half a second less")
    assert "0.60 s old" in looker.namespaces()["text"].text
    assert len(looker.namespaces()["executed"].points) == 25


def test_the_description_is_heard(start):
    robot = start(before=publish_description)
    looker = Looker(robot)
    looker.wait_for_robot()
    robot.chunk()
    np.testing.assert_allclose(
        places_of(looker.wait_for("chunk")["chunk"]), tool_places(CHUNK)[4:], atol=1e-6
    )


def test_a_wrong_description_does_no_harm(start, capfd):
    """The node says what is wrong, goes on, and takes the next one."""
    robot = start()
    looker = Looker(robot)
    for text, says in (
        ("<robot", "no XML"),
        (arm_urdf().replace("pan", "shoulder"), "no joint is called pan"),
        (arm_urdf().replace('xyz="0 0 1"', 'xyz="up"'), "pinocchio does not take it"),
    ):
        publish_description(robot.robot, text)
        heard = []

        def said(says=says, heard=heard):
            heard.append(capfd.readouterr().err)
            return says in "".join(heard)

        wait_until(said, says)
        time.sleep(2.1)  # the next line about it may come then
        robot.chunk()
    assert not (looker.markers or looker.paths or looker.ghosts)
    publish_description(robot.robot)
    looker.wait_for_robot()
    robot.chunk()
    looker.wait_for("chunk")


def test_without_a_description_a_line_says_how_to_give_one(start, capfd):
    robot = start()
    looker = Looker(robot)
    robot.chunk()
    heard = []

    def said():
        heard.append(capfd.readouterr().err)
        return "give robot_description_file" in "".join(heard)

    wait_until(said, "the hint")
    assert "/robot_description" in "".join(heard)
    time.sleep(2.5)
    heard.append(capfd.readouterr().err)
    assert "".join(heard).count("give robot_description_file") == 1
    robot.chunk()
    assert not (looker.markers or looker.paths or looker.ghosts)


def test_nothing_is_computed_for_nobody(start, file, monkeypatch):
    from pi0_ros.viz.kinematics import Arm

    robot = start(robot_description_file=file)
    called = []
    monkeypatch.setattr(Arm, "tool_poses", lambda *_: called.append(1))
    robot.chunk()
    robot.chunk()
    time.sleep(1.2)  # a look for subscribers
    assert not called and robot.node.display._timer is None
    assert robot.node.counts.errors == 0


def test_the_trajectory_does_not_wait_for_markers(start, file, monkeypatch):
    """It is out, and so is the chunk, before anything is computed for them."""
    from pi0_ros.viz.kinematics import Arm

    robot = start(robot_description_file=file)
    looker = Looker(robot)
    go_on, waiting = threading.Event(), threading.Event()
    compute = Arm.tool_poses

    def slow(arm, positions):
        waiting.set()
        assert go_on.wait(20)
        return compute(arm, positions)

    monkeypatch.setattr(Arm, "tool_poses", slow)
    try:
        robot.send_all()
        robot.tick()
        assert waiting.wait(10)
        wait_until(lambda: robot.trajectories and robot.chunks, "the trajectory and the chunk")
        assert not looker.markers
    finally:
        go_on.set()
    looker.wait_for("chunk")


def test_what_was_shown_goes_with_the_clock_and_the_activation(start, file):
    from rclpy.lifecycle import TransitionCallbackReturn

    robot = start(robot_description_file=file)
    looker = Looker(robot, "markers")
    robot.chunk()
    looker.wait_for("chunk")
    robot.advance(-100.0)
    wait_until(lambda: robot.node.display.newest is None, "a forgotten chunk")
    robot.chunk()
    looker.wait_for("chunk")
    assert robot.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    before = len(looker.markers)
    time.sleep(0.5)
    assert len(looker.markers) - before <= 1, "at most one was on its way"
    assert robot.node.display.newest is None
