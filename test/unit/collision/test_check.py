"""What links would hit, where the tool would leave its box, and files that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from benchmarks.seven_joints import JOINTS, TOOL, seven_joint_urdf
from pi0_ros.collision.check import CollisionCheck, colliding
from pi0_ros.errors import ProblemsError
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.motion.spline import Motion
from pi0_ros.sim.stage import ARM_URDF

pinocchio = pytest.importorskip("pinocchio")

STRAIGHT = np.zeros(7)
FOLDED = np.array([0, 2.5, 0, 2.5, 0, 2.5, 0])
SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def motion(*poses: np.ndarray, points: int = 50, dt: float = 0.02) -> Motion:
    """Through the poses, at rest at both ends."""
    share = np.linspace(0, len(poses) - 1, points)
    legs = np.minimum(share.astype(int), len(poses) - 2)
    part = (share - legs)[:, None]
    first = np.array(poses)[legs]
    positions = first + (np.array(poses)[legs + 1] - first) * part**2 * (3 - 2 * part)
    velocities = np.gradient(positions, dt, axis=0)
    velocities[[0, -1]] = 0.0
    times = 10**18 + round(dt * 1e9) * np.arange(points, dtype=np.int64)
    return Motion(times, positions, velocities)


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    path = tmp_path / "seven.urdf"
    path.write_text(seven_joint_urdf())
    return path


def problems(urdf: Path, joints: tuple[str, ...] = JOINTS, **options) -> str:
    with pytest.raises(ProblemsError) as caught:
        CollisionCheck(urdf, joints, **options)
    return "\n".join(caught.value.problems)


def test_a_motion_that_hits_nothing(arm: Path) -> None:
    check = CollisionCheck(arm, JOINTS)
    assert len(check.pairs) == 8 * 7 / 2 - 7, "all but neighbours"
    assert check.unshaped == ("tool",)
    assert check(motion(STRAIGHT, STRAIGHT + 0.3)) is None
    still = motion(STRAIGHT, STRAIGHT)
    assert check(still) is None and check(still.points(slice(1))) is None


def test_links_that_would_hit_each_other(arm: Path) -> None:
    refusal = CollisionCheck(arm, JOINTS)(motion(STRAIGHT, FOLDED))
    assert isinstance(refusal, Refusal) and refusal.reason == Reason.COLLISION
    first, second, share = colliding(str(refusal))
    assert (first, second) == ("link1", "link7")
    assert "would collide at step 37 of 50 (closer than 0.01 m)" in refusal.detail
    assert share == 37 / 50
    assert colliding("limits: joint1 is 2 rad off") is None


def test_the_first_hit_is_where_pinocchio_sees_it(arm: Path) -> None:
    """Judged by distances at a thousand times of the motion, which the check does not compute."""
    check = CollisionCheck(arm, JOINTS)
    model = pinocchio.buildModelFromXML(arm.read_text())
    geometry = pinocchio.buildGeomFromUrdf(model, str(arm), pinocchio.GeometryType.COLLISION)
    for first in range(8):
        for second in range(first + 2, 8):
            geometry.addCollisionPair(pinocchio.CollisionPair(first, second))
    data, shapes = model.createData(), geometry.createData()

    def nearest(positions: np.ndarray) -> float:
        pinocchio.computeDistances(model, data, geometry, shapes, positions)
        return min(result.min_distance for result in shapes.distanceResults)

    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        moved = motion(*generator.uniform(-2.8, 2.8, (2, 7)))
        times = np.linspace(0, 49 * 20_000_000, 1000).astype(np.int64) + moved.times[0]
        distances = np.array([nearest(row) for row in moved.sample_all(times)[0]])
        refusal = check(moved)
        if distances.min() <= 0:
            assert refusal is not None, "links that touch at any time are seen"
        if refusal is None:
            continue
        hits += 1
        assert distances.min() < 0.01 + 1e-6
        near = times[np.argmax(distances < 0.01 + 1e-6)]
        _, _, share = colliding(str(refusal))
        seen = moved.times[round(share * 50) - 1]
        assert near - 20_000_000 <= seen <= near + 60_000_000
    assert 10 < hits < 60


@pytest.mark.parametrize("kind", ["revolute", "continuous"])
def test_a_hit_between_two_points(tmp_path: Path, kind: str) -> None:
    """In four points, through a pose that collides and back: no point of them is near it."""
    path = tmp_path / "seven.urdf"
    path.write_text(seven_joint_urdf(kind=kind))
    times = np.array([0, 500_000_000, 1_000_000_000], np.int64)
    turn = np.array([0, 0, 0, 1.0, 0, 0, 0])
    positions = np.outer([0.0, 2.2, 0.0], turn)
    swing = Motion(times, positions, np.outer([0.0, 0.0, 0.0], turn))
    assert CollisionCheck(path, JOINTS)(swing) is None
    over = Motion(times[[0, 2]], positions[[0, 2]], np.outer([16.0, -16.0], turn))
    assert np.abs(over.sample(500_000_000)[0]).max() == pytest.approx(4.0)
    refusal = CollisionCheck(path, JOINTS)(over)
    assert refusal is not None and "at step 2 of 2" in refusal.detail


def test_an_srdf_says_which_pairs_are_compared(arm: Path, tmp_path: Path) -> None:
    srdf = tmp_path / "seven.srdf"
    rows = [(i, i + 1) for i in range(7)] + [(1, 7)]
    srdf.write_text(
        "<robot name='seven'>"
        + "".join(f"<disable_collisions link1='link{a}' link2='link{b}'/>" for a, b in rows)
        + "<disable_default_collisions link='link0'/>"
        + "<enable_collisions link1='link0' link2='link7'/></robot>"
    )
    check = CollisionCheck(arm, JOINTS, srdf=srdf)
    assert ("link1", "link7") not in check.pairs and ("link0", "link7") in check.pairs
    assert ("link0", "link6") not in check.pairs and len(check.pairs) == 7 * 6 / 2 - 7 + 1
    refusal = check(motion(STRAIGHT, FOLDED))
    assert refusal is None or "link1 and link7" not in refusal.detail
    for text, says in (
        ("<robot/>", "expected an SRDF"),
        ("<sdf/>", "expected an SRDF"),
        ("<robot", "no XML"),
        ("<!DOCTYPE a><robot/>", "document type"),
        ("<robot><disable_collisions link1='a' link2='link0'/></robot>", "does not have: a"),
    ):
        srdf.write_text(text)
        said = problems(arm, srdf=srdf)
        assert says in said and said.startswith(str(srdf))
    assert "No such file" in problems(arm, srdf=tmp_path / "none.srdf")


def test_pairs_that_collide_at_the_reference_are_named(arm: Path) -> None:
    said = problems(arm, reference=FOLDED)
    assert "than 0.01 m already in the pose [0, 2.5, 0, 2.5, 0, 2.5, 0]: link0 and link5, " in said
    assert "link4 and link7" in said
    assert "collision_reference" in said and "SRDF" in said


def test_the_tool_in_its_box(arm: Path) -> None:
    box = (-1.0, -1.0, 0.2, 1.0, 1.0, 2.0)
    check = CollisionCheck(arm, JOINTS, self_collision=False, box=box)
    assert check(motion(STRAIGHT, STRAIGHT + 0.3)) is None
    down = np.array([0, 2.2, 0, 0, 0, 0, 0])
    refusal = check(motion(STRAIGHT, down))
    assert refusal is not None and refusal.reason == Reason.WORKSPACE
    assert refusal.detail.startswith("tool would leave the workspace: ")
    assert "at step " in refusal.detail
    low = CollisionCheck(arm, JOINTS, self_collision=False, box=(-1, -1, 0, 1, 1, TOOL - 0.1))
    refusal = low(motion(STRAIGHT, STRAIGHT))
    assert f"z = {TOOL:.3f} m, above {TOOL - 0.1:g} m at step 1 of 50" in refusal.detail
    other = CollisionCheck(
        arm, JOINTS, self_collision=False, box=(-1, -1, 0, 1, 1, 1), tool="link3"
    )
    assert other(motion(STRAIGHT, STRAIGHT)) is None
    assert "no link is called 'hand'" in problems(arm, box=box, tool="hand")


def tetrahedron(path: Path) -> None:
    """An STL file: a corner of a cube of one metre."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float) - [0.25, 0.25, 0.5]
    faces = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    rows = []
    for face in faces:
        points = "".join("vertex {} {} {}\n".format(*corners[i]) for i in face)
        rows.append(f"facet normal 0 0 0\nouter loop\n{points}endloop\nendfacet\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"solid t\n{''.join(rows)}endsolid t\n")


@pytest.mark.parametrize("name", ["meshes/a.stl", "package://seven/meshes/a.stl", "file://"])
def test_meshes_are_found(tmp_path: Path, monkeypatch, name: str) -> None:
    path = tmp_path / "share" / "seven" / "seven.urdf"
    mesh = path.parent / "meshes" / "a.stl"
    tetrahedron(mesh)
    name = f"file://{mesh}" if name == "file://" else name
    path.write_text(seven_joint_urdf(shape=name))
    if name.startswith("package"):
        moved = path.rename(tmp_path / "seven.urdf")
        assert "link link0: no mesh file package://seven/meshes/a.stl; looked in" in problems(moved)
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
        path = moved
    check = CollisionCheck(path, JOINTS)
    assert check(motion(STRAIGHT, STRAIGHT + 0.2)) is None
    assert check(motion(STRAIGHT, FOLDED)).reason == Reason.COLLISION
    mesh.unlink()
    said = problems(path)
    assert said.count("no mesh file") == 8, "all of them are listed"
    mesh.write_text("no mesh")
    assert "meshes cannot be read" in problems(path)


def test_files_that_cannot_be_used(arm: Path, tmp_path: Path) -> None:
    assert "No such file" in problems(tmp_path / "none.urdf")
    assert "no joint is called a; those that move: joint1" in problems(arm, ("a",))
    bare = tmp_path / "bare.urdf"
    bare.write_text(seven_joint_urdf(shape="none"))
    assert "no link has a <collision> or <visual> shape" in problems(bare)
    assert CollisionCheck(bare, JOINTS, self_collision=False, box=(-9, -9, -9, 9, 9, 9)).pairs == ()


def test_the_simulated_arm() -> None:
    """Its shapes are visual ones; the jaw passes the wrist within a centimetre."""
    assert problems(ARM_URDF, SO101).startswith("these links are closer than 0.01 m already in")
    check = CollisionCheck(ARM_URDF, SO101, margin=0.002)
    rest = np.zeros(6)
    assert check(motion(rest, rest + 0.2)) is None
    folded = np.array([0, 1.7, -1.6, -1.6, 0, 0])
    hit = [check(motion(rest, rest + sign * folded)) for sign in (1, -1)]
    assert any(refusal is not None for refusal in hit)


def test_mimic_and_prismatic_joints_move_links(tmp_path: Path) -> None:
    """Two fingers of a hand on a rail: one follows the other until they meet."""
    box = (
        '<collision><origin xyz="0 {} 0"/><geometry><box size="0.02 0.02 0.1"/></geometry>'
        "</collision>"
    )
    joint = (
        '<joint name="{0}" type="prismatic"><parent link="{2}"/><child link="{1}"/>'
        '<axis xyz="0 {3} 0"/><limit lower="0" upper="0.5" velocity="1" effort="1"/>{4}</joint>'
    )
    path = tmp_path / "hand.urdf"
    path.write_text(
        '<robot name="hand"><link name="rail"/><link name="hand"/>'
        f'<link name="left">{box.format(-0.1)}</link><link name="right">{box.format(0.1)}</link>'
        + joint.format("slide", "hand", "rail", 1, "")
        + joint.format("grip", "left", "hand", 1, "")
        + joint.format("other", "right", "hand", -1, '<mimic joint="grip" multiplier="0.5"/>')
        + "</robot>"
    )
    check = CollisionCheck(path, ("slide", "grip"))
    assert check.pairs == (("left", "right"),)
    np.testing.assert_array_equal(check._reach, [1.0, 1.5])
    assert check(motion(np.zeros(2), np.array([0.4, 0.09]))) is None
    refusal = check(motion(np.zeros(2), np.array([0.4, 0.13])))
    assert refusal is not None and "left and right would collide" in refusal.detail


def test_no_point_moves_further_than_twice_the_margin(arm: Path) -> None:
    check = CollisionCheck(arm, JOINTS)
    generator = np.random.default_rng(1)
    for _ in range(20):
        moved = motion(*generator.uniform(-2, 2, (3, 7)))
        times, steps = check.sample_times(moved)
        assert (np.diff(times) > 0).all() and (np.diff(steps) >= 0).all()
        assert set(moved.times.tolist()) <= set(times.tolist())
        np.testing.assert_array_equal(steps, np.searchsorted(moved.times, times) + 1)
        places, _ = check._arm.tool_poses(moved.sample_all(times)[0])
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() <= 0.02 + 1e-9


def test_without_pinocchio_the_sentence_says_what_to_install(arm: Path) -> None:
    program = (
        "import sys; sys.modules['pinocchio'] = None\n"
        "from pathlib import Path\n"
        "from pi0_ros.collision.check import CollisionCheck\n"
        f"try: CollisionCheck(Path({str(arm)!r}), {JOINTS!r})\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pip install pin" in done.stdout
