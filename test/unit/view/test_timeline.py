"""What a timeline says of a moment, and the shapes of a robot."""

import cv2
import numpy as np
import pytest
from support.recordings import START
from support.view_cases import DT, JOINTS, STEPS, chunk, urdf

pytest.importorskip("pinocchio")

from pi0_ros.bags.chunks import DRY_RUN as DRY_RUN_CHUNK
from pi0_ros.bags.chunks import EXECUTED, REJECTED
from pi0_ros.collision.kinematics import Arm
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.view.timeline import DRY_RUN, ENABLED, IMAGE_WIDTH, LATCHED, Timeline

SECOND = 1_000_000_000


@pytest.fixture
def arm() -> Arm:
    return Arm(urdf(), JOINTS)


def add_chunk(
    timeline: Timeline, seconds: float, sequence: int, verdict: int = EXECUTED, why: str = ""
) -> None:
    time = START + round(seconds * SECOND)
    timeline.add_chunk(time, chunk(time, sequence, verdict=verdict, why=why))


def test_a_moment_is_what_came_before_it(arm):
    timeline = Timeline(arm)
    for k in range(5):
        add_chunk(timeline, k, k)
        timeline.add_joints(START + k * SECOND, {"shoulder": float(k)})
        image = np.full((30, 40, 3), 10 * k, np.uint8)
        timeline.add_image("/front", START + k * SECOND, image)
    timeline.add_joints(START + 4 * SECOND, {"wheel": 9.0})  # another publisher
    assert timeline.at(START - 1).chunk is None and timeline.at(START - 1).images == {}
    for time, k in ((0, 0), (1.99, 1), (2, 2), (100, 4)):
        moment = timeline.at(START + round(time * SECOND))
        assert moment.chunk.sequence == k and moment.scene.newest.sequence == k
        assert moment.joints["shoulder"] == k
        rgb = cv2.imdecode(np.frombuffer(moment.images["/front"], np.uint8), 1)
        assert rgb.shape == (240, IMAGE_WIDTH, 3) and abs(int(rgb.mean()) - 10 * k) <= 2
    assert timeline.at(START + 9 * SECOND).joints == {"shoulder": 4.0, "wheel": 9.0}


def test_the_state_is_the_nodes_own_word_or_the_chunks(arm):
    timeline = Timeline(arm)
    add_chunk(timeline, 0, 0)
    add_chunk(timeline, 1, 1, verdict=DRY_RUN_CHUNK)
    assert timeline.at(START - 1).state == ""
    assert timeline.at(START).state == ENABLED
    assert timeline.at(START + SECOND).state == DRY_RUN
    timeline.add_state(START + 2 * SECOND, f"{LATCHED} by the deadman; call ~/reset")
    assert timeline.at(START + 3 * SECOND).state.startswith(LATCHED)


def test_a_state_is_shown_as_text():
    pytest.importorskip("viser")
    from pi0_ros.view.page import badge

    assert badge("") == ""
    assert "&lt;b&gt;" in badge("latched by <b>") and "<b>" not in badge("latched by <b>")
    assert badge(ENABLED) != badge(DRY_RUN)


def test_the_ghost_is_outside_of_the_robot(caplog):
    """Surfaces in one place would flicker."""
    pytest.importorskip("viser")
    import trimesh

    from pi0_ros.view.page import thicker

    box = trimesh.creation.box((1.0, 2.0, 3.0))
    grown = thicker(box.vertices, box.faces, 0.01)
    assert not caplog.records
    assert (np.abs(grown) > np.abs(box.vertices)).all()
    assert np.abs(grown - box.vertices).max() <= 0.0101


def test_jumping_to_a_moment_draws_what_playing_would(arm):
    timeline = Timeline(arm)
    for k in range(20):
        add_chunk(timeline, k / 5, k)
    lines = {
        line.name: line
        for line in timeline.at(START + round(3.1 * SECOND)).scene.lines(
            START + round(3.1 * SECOND)
        )
    }
    assert set(lines) == {"executed", "chunk", "replaced"}
    # Chunks come every 0.2 s and are 0.05 s old, so ten steps of each are done: two seconds' worth.
    assert 95 <= len(lines["executed"].places) <= 115
    due = int((0.1 + 0.05) / DT)  # of the newest one, the last of which begins the line
    assert len(lines["chunk"].places) == STEPS - due + 1


def test_rejected_chunks_and_forgetting(arm):
    timeline = Timeline(arm, keep=3.0)
    add_chunk(timeline, 0.0, 7, REJECTED, "limits: too far")
    moment = timeline.at(START + SECOND // 2)
    assert moment.chunk is None and "rejected: limits: too far" in moment.scene.text(START)
    assert [line.name for line in moment.scene.lines(START + SECOND // 2)] == ["rejected"]
    for k in range(10):
        timeline.add_joints(START + k * SECOND, {"shoulder": float(k)})
    assert timeline.at(START + 9 * SECOND).joints == {"shoulder": 9.0}
    assert timeline.at(START + 6 * SECOND).joints == {"shoulder": 6.0}
    assert timeline.at(START + 2 * SECOND).joints == {}, "forgotten"


def test_images_are_thinned(arm):
    timeline = Timeline(arm)
    kept = 0
    for k in range(30):
        time = START + k * SECOND // 30
        if timeline.wants_image("/front", time):
            timeline.add_image("/front", time, np.zeros((4, 4, 3), np.uint8))
            kept += 1
    assert 9 <= kept <= 11
    assert timeline.wants_image("/front", START - SECOND), "a clock that jumped back"


def test_shapes(arm):
    pytest.importorskip("trimesh")
    from pi0_ros.view.robot import robot_shapes

    shapes = robot_shapes(arm)
    assert [shape.link for shape in shapes] == ["link0", "link1", "link2", "link3"]
    for shape in shapes:
        np.testing.assert_allclose(shape.vertices.min(axis=0), [0.01, -0.02, -0.02], atol=1e-6)
        np.testing.assert_allclose(shape.vertices.max(axis=0), [0.29, 0.02, 0.02], atol=1e-6)
        assert shape.faces.shape == (12, 3)


@pytest.mark.parametrize(
    "shape", ['<cylinder radius="0.02" length="0.28"/>', '<sphere radius="0.14"/>']
)
def test_round_shapes(shape):
    pytest.importorskip("trimesh")
    from pi0_ros.view.robot import robot_shapes

    material = '<material name="m"><color rgba="1 0.5 0 1"/></material>'
    arm = Arm(urdf(visual=f"<geometry>{shape}</geometry>{material}"), JOINTS)
    (first, *_) = robot_shapes(arm)
    np.testing.assert_allclose(np.ptp(first.vertices, axis=0).max(), 0.28, atol=1e-3)
    assert first.colour == (255, 128, 0)


def test_meshes(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    from pi0_ros.collision.shapes import package_folders
    from pi0_ros.view.robot import robot_shapes

    (tmp_path / "bars/meshes").mkdir(parents=True)
    trimesh.creation.box((100, 20, 20)).export(tmp_path / "bars/meshes/bar.stl")
    mesh = (
        '<geometry><mesh filename="package://bars/meshes/{}" scale="0.001 0.001 0.001"/></geometry>'
    )
    folders = package_folders(tmp_path / "bars/urdf/bars.urdf")
    arm = Arm(urdf(visual=mesh.format("bar.stl")), JOINTS)
    (first, *_) = robot_shapes(arm, folders)
    np.testing.assert_allclose(np.ptp(first.vertices, axis=0), [0.1, 0.02, 0.02], atol=1e-6)
    with pytest.raises(UrdfError, match="its meshes cannot be read") as caught:
        robot_shapes(Arm(urdf(visual=mesh.format("gone.stl")), JOINTS), folders)
    assert str(tmp_path) in str(caught.value)


def test_a_robot_without_shapes():
    pytest.importorskip("trimesh")
    from pi0_ros.view.robot import robot_shapes

    text = urdf().replace("<visual>", "<collision>").replace("</visual>", "</collision>")
    with pytest.raises(UrdfError, match="no link of it has a <visual>"):
        robot_shapes(Arm(text, JOINTS))
