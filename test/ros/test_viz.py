"""The node pi0_viz: markers and path of chunks, and what bad input does to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.arm_urdf import LENGTHS, arm_urdf, tool_places
from support.domains import free_domain
from support.harness import DT, HORIZON
from support.viewer import CHUNK, Viewer, publish_description
from support.waiting import PATIENCE, wait_until

pytest.importorskip("rclpy")
pytest.importorskip("pinocchio")

DRY_RUN, EXECUTED, REJECTED = 0, 1, 2
COMMAND = [sys.executable, "-c", "import sys; from pi0_ros.viz.main import main; sys.exit(main())"]


def points_of(marker) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in marker.points])


@pytest.fixture
def view() -> Iterator[Callable[..., Viewer]]:
    """view(*topics, **options of Viewer) -> Viewer, ended with the test."""
    running: list[Viewer] = []

    def begin(*topics, **options) -> Viewer:
        running.append(Viewer(free_domain(), *topics, **options))
        return running[-1]

    yield begin
    for viewer in running:
        viewer.close()


def says(capfd, text: str) -> None:
    """Wait for a text in the log."""
    heard = []

    def said() -> bool:
        heard.append(capfd.readouterr().err)
        return text in "".join(heard)

    wait_until(said, f"{text!r} in the log")


def count_calls(viewer, monkeypatch) -> list[int]:
    """Grows with every callback of the node that asks for viewers: of a chunk, and of its timer."""
    asked: list[int] = []
    watched = viewer.node._watched
    monkeypatch.setattr(viewer.node, "_watched", lambda: asked.append(1) or watched())
    return asked


def test_a_chunk_is_drawn(view):
    from visualization_msgs.msg import Marker

    viewer = view()
    viewer.chunk()
    markers = viewer.wait_for("chunk", "text")
    chunk = markers["chunk"]
    assert (chunk.type, chunk.action) == (Marker.LINE_STRIP, Marker.ADD)
    assert chunk.header.frame_id == "base"
    assert len(chunk.colors) == len(chunk.points)
    # 0.1 s old: five steps were due when it came; the line begins at the last of them.
    np.testing.assert_allclose(points_of(chunk), tool_places(CHUNK)[4:], atol=1e-6)
    first, last = chunk.colors[0], chunk.colors[-1]
    assert first.b > 0.9 and first.r < 0.2 and last.r > 0.9 and last.g < 0.1
    assert markers["text"].type == Marker.TEXT_VIEW_FACING
    assert markers["text"].text == "touch the red cube\nchunk 0, 0.10 s old"

    wait_until(lambda: viewer.paths, "the path")
    message = viewer.paths[0]
    assert message.header.frame_id == "base" and len(message.poses) == HORIZON
    stamps = [p.header.stamp.sec * 10**9 + p.header.stamp.nanosec for p in message.poses]
    begin = viewer.now - 100_000_000
    assert stamps == [begin + (i + 1) * round(DT * 1e9) for i in range(HORIZON)]
    positions = [(p.pose.position.x, p.pose.position.y) for p in message.poses]
    np.testing.assert_allclose(positions, tool_places(CHUNK)[:, :2], atol=1e-6)


def test_the_parts_have_colours_of_their_own(view):
    viewer = view("markers")
    for _ in range(3):
        viewer.chunk()
        viewer.advance(0.1)
    markers = viewer.wait_for("executed", "chunk", "replaced", "text")
    assert "passed" not in markers
    colours = {(m.color.r, m.color.g, m.color.b) for m in markers.values()}
    assert len(colours) == len(markers)


def test_a_dry_run_executes_nothing(view):
    viewer = view("markers")
    viewer.chunk(verdict=DRY_RUN)
    viewer.advance(0.1)
    viewer.chunk(verdict=DRY_RUN)
    viewer.advance(0.05)
    assert "executed" not in viewer.wait_for("passed", "chunk")


@pytest.mark.parametrize("finite", [HORIZON, 10, 0])
def test_a_rejected_chunk_is_drawn_in_red(view, finite):
    viewer = view("markers")
    positions = CHUNK + np.array([2.0, 0.0, 0.0])
    positions[finite:, 1] = np.nan
    viewer.send(positions, verdict=REJECTED, rejected_reason="limits: pan is 2 rad off")
    markers = viewer.wait_for("text")
    assert markers["text"].text == "rejected: limits: pan is 2 rad off"
    assert "chunk" not in markers and viewer.node.chunk is None
    if finite:
        assert len(markers["rejected"].points) == finite
        assert markers["rejected"].color.r > 0.9
    else:
        assert "rejected" not in markers


def test_links_that_would_collide_are_marked_in_red(view):
    viewer = view("markers")
    why = "collision: upper and finger would collide at step 10 of 50 (closer than 0.01 m)"
    viewer.send(CHUNK, verdict=REJECTED, rejected_reason=why)
    markers = viewer.wait_for("collision", "collision_text")
    for marker in (markers["collision"], markers["collision_text"]):
        assert marker.color.r > 0.9 and marker.color.g < 0.2
    assert markers["collision_text"].text == "upper and finger"
    assert markers["text"].text == f"rejected: {why}"
    upper, finger = points_of(markers["collision"])
    np.testing.assert_allclose(upper, 0, atol=1e-9)
    pan, lift, grip = CHUNK[9]
    place = np.array([LENGTHS[0] * np.cos(pan), LENGTHS[0] * np.sin(pan), 0.0])
    place += (0.1 + grip) * np.array([np.cos(pan + lift), np.sin(pan + lift), 0.0])
    np.testing.assert_allclose(finger, place, atol=1e-6)


def test_markers_go_on_without_new_chunks(view):
    """RViz removes markers that are not published again, and the steps become due."""
    viewer = view("markers")
    viewer.chunk()
    before = len(viewer.wait_for("chunk")["chunk"].points)
    viewer.advance(0.5)
    wait_until(
        lambda: len(viewer.namespaces()["chunk"].points) == before - 25, "half a second less"
    )
    assert "0.60 s old" in viewer.namespaces()["text"].text
    assert len(viewer.namespaces()["executed"].points) == 25


@pytest.mark.parametrize("seconds", [-100.0, 5.0])
def test_a_chunk_that_is_over_is_drawn_no_more(view, monkeypatch, seconds):
    """pi0 was deactivated, or the clock jumped; the next chunk is drawn as ever."""
    viewer = view("markers", "preview/joint_states")
    viewer.chunk()
    viewer.wait_for("chunk")
    viewer.advance(seconds)
    wait_until(lambda: viewer.node.chunk is None, "the end of the chunk")
    drawn: list[object] = []
    with monkeypatch.context() as patch:
        for publisher in (viewer.node._markers, viewer.node._ghost):
            patch.setattr(publisher, "publish", drawn.append)
        asked = count_calls(viewer, patch)
        wait_until(lambda: len(asked) >= 10, "the timer, again and again")
    assert not drawn
    viewer.chunk()
    viewer.wait_for("chunk")


@pytest.mark.parametrize("latched", [True, False])
def test_the_description_may_come_after_the_chunks(view, latched, capfd):
    viewer = view(description="")
    viewer.send()
    says(capfd, "publish it on /robot_description")
    assert not (viewer.markers or viewer.paths or viewer.ghosts)
    if latched:
        publish_description(viewer.user)
    else:
        from rclpy.qos import QoSProfile
        from std_msgs.msg import String

        publisher = viewer.user.create_publisher(String, "robot_description", QoSProfile(depth=1))
        wait_until(publisher.get_subscription_count, "discovery")
        publisher.publish(String(data=arm_urdf()))
    wait_until(lambda: viewer.node._urdf_text, "the robot description")
    viewer.chunk()
    viewer.wait_for("chunk")


def test_a_description_from_a_file(view, tmp_path):
    file = tmp_path / "arm.urdf"
    file.write_text(arm_urdf())
    viewer = view("markers", description="", robot_description_file=str(file), tool_frame="lower")
    assert "/robot_description" not in {s.topic_name for s in viewer.node.subscriptions}
    viewer.chunk()
    viewer.wait_for("chunk")
    assert viewer.node.arm.tool == "lower"


def test_unusable_descriptions_are_told_and_the_next_one_is_drawn(view, capfd):
    viewer = view(description="")
    for text, problem in (
        ("<robot", "no XML"),
        (arm_urdf().replace("pan", "shoulder"), "no joint is called pan"),
        (arm_urdf().replace('xyz="0 0 1"', 'xyz="up"'), "pinocchio does not take it"),
        (f"<robot>{'<link/>' * 3000}</robot>", "3000 links; at most 2000 are read"),
        ("x" * (4 * 2**20 + 1), "larger than 4194304 bytes"),
    ):
        publish_description(viewer.user, text)
        wait_until(lambda text=text: viewer.node._urdf_text == text, "the description")
        viewer.send()
        says(capfd, problem)
        viewer.send()
    assert not (viewer.markers or viewer.paths or viewer.ghosts)
    publish_description(viewer.user)
    wait_until(lambda: viewer.node._urdf_text == arm_urdf(), "the description")
    viewer.chunk()
    viewer.wait_for("chunk")


def test_malformed_chunks_are_told_and_the_next_one_is_drawn(view, capfd):
    viewer = view()
    nan = CHUNK.copy()
    nan[7, 1] = np.nan
    for fields, problem in (
        ({"horizon": 7}, "positions: expected 7 steps x 3 joints, got 150 numbers"),
        ({"horizon": 2**32 - 1}, "horizon: expected 1 to 1000 steps, got 4294967295"),
        ({"joint_names": []}, "joint_names: expected 1 to 100 different names, got 0"),
        ({"joint_names": ["pan", "pan", "lift"]}, "different names, got 3: pan, pan, lift"),
        ({"joint_names": ["pan", "lift", "paw"]}, "no joint is called paw"),
        ({"dt": 0.0}, "dt: expected more than 0"),
        ({"dt": float("nan")}, "dt: expected more than 0"),
        ({"positions": nan}, "positions: expected finite numbers"),
        ({"verdict": 9}, "verdict: expected 0, 1 or 2, got 9"),
        ({"age": 1000.0}, "1e+03 s old by the clock of this node"),
        ({"age": -5.0}, "-5 s old by the clock of this node"),
    ):
        viewer.send(**fields)
        says(capfd, problem)
    viewer.chunks.publish(b"\0\1\0\0half")
    says(capfd, "that are no ActionChunk")
    assert not (viewer.markers or viewer.paths or viewer.ghosts)
    viewer.chunk()
    viewer.wait_for("chunk")


def test_nothing_is_computed_without_viewers(view, monkeypatch):
    from pi0_ros.viz import node

    viewer = view("")
    read = []
    monkeypatch.setattr(node, "read_chunk", lambda *_: read.append(1))
    monkeypatch.setattr(viewer.node, "_publish_markers", lambda *_: read.append(1))
    asked = count_calls(viewer, monkeypatch)
    # Nothing is drawn, so the timer does not ask; the second chunk proves that the first is over.
    wait_until(lambda: viewer.send() or len(asked) >= 2, "two chunks")
    assert not read


def test_a_stopped_viewer_does_not_hold_up_the_node(start, tmp_path):
    """DDS would block it for 0.1 s per message, were the stopped subscriber reliable."""
    robot = start()
    domain = robot.node.context.get_domain_id()
    viewer = subprocess.Popen(
        [*COMMAND, "--ros-args", "-p", "use_sim_time:=true"],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
    try:
        publisher = robot.node._outputs.chunks
        robot.wait(lambda: publisher.get_subscription_count() == 2, "pi0_viz")
        viewer.send_signal(signal.SIGSTOP)
        durations = []
        publish = publisher.publish

        def timed(message) -> None:
            begun = time.perf_counter()
            publish(message)
            durations.append(time.perf_counter() - begun)

        publisher.publish = timed
        for _ in range(20):
            robot.chunk()
        # All of them would be blocked; a busy machine holds up some.
        assert len(durations) == 20 and np.percentile(durations, 25) < 0.05
    finally:
        viewer.kill()
        viewer.wait()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["-p", "robot_description_file:=/none.urdf"], 1, "robot description /none.urdf: No such"),
        (["-p", "preview_step:=fast"], 1, "preview_step"),
        (["-r", "::"], 1, "ROS does not take the arguments"),
    ],
)
def test_the_process_ends_with_a_sentence(arguments, status, text):
    run = subprocess.run(
        [*COMMAND, "--ros-args", *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == status, run.stderr
    assert text in run.stderr and "Traceback" not in run.stderr
