"""Which part of a chunk is which at a time, and its colour."""

import numpy as np
import pytest

from pi0_ros.viz.scene import EXECUTED, FAR, NEAR, PASSED, REJECTED, REPLACED, Scene, ToolPath, ramp

MS = 1_000_000
NOW = 1_000_000 * MS
STEP = 20 * MS


def path(stamp: int, sequence: int = 0, executed: bool = True, steps: int = 50) -> ToolPath:
    """A tool that moves along x by 1 mm per step, at y = `sequence`."""
    k = np.arange(1, steps + 1)
    places = np.column_stack([k / 1000, np.full(steps, float(sequence)), np.zeros(steps)])
    orientations = np.tile([0.0, 0, 0, 1], (steps, 1))
    return ToolPath(
        stamp + k * STEP, places, orientations, executed, stamp, sequence, "touch the cube"
    )


def lines(scene: Scene, now: int) -> dict:
    found = scene.lines(now)
    assert all(len(line.places) == len(line.colours) > 1 for line in found)
    assert len({line.name for line in found}) == len(found)
    return {line.name: line for line in found}


def test_nothing_yet():
    scene = Scene()
    assert scene.lines(NOW) == [] and scene.text(NOW) == ""


def test_a_chunk_is_coloured_along_time():
    scene = Scene()
    scene.add(path(NOW), NOW)
    drawn = lines(scene, NOW)
    assert set(drawn) == {"chunk"}
    assert len(drawn["chunk"].places) == 50
    np.testing.assert_allclose(drawn["chunk"].colours[[0, -1]], [NEAR, FAR])
    assert scene.text(NOW + 250 * MS) == "touch the cube\nchunk 0, 0.25 s old"


@pytest.mark.parametrize(
    ("executed", "name", "colour"), [(True, "executed", EXECUTED), (False, "passed", PASSED)]
)
def test_what_is_due_counts_from_the_publication(executed, name, colour):
    """Steps that were due before the chunk came were never done."""
    scene = Scene()
    scene.add(path(NOW, executed=executed), NOW + 100 * MS)  # steps 0 to 4 are due already
    drawn = lines(scene, NOW + 300 * MS)
    assert set(drawn) == {name, "chunk"}
    np.testing.assert_allclose(drawn[name].places[:, 0], np.arange(6, 16) / 1000)
    np.testing.assert_allclose(drawn[name].colours, np.tile(colour, (10, 1)))
    # What is left goes on from the last step that is due, in the colours of its time.
    np.testing.assert_allclose(drawn["chunk"].places[:, 0], np.arange(15, 51) / 1000)
    np.testing.assert_allclose(drawn["chunk"].colours, ramp(50)[14:])


def test_a_newer_chunk_replaces_what_is_left():
    scene = Scene()
    scene.add(path(NOW), NOW)
    later = NOW + 200 * MS
    scene.add(path(later - 40 * MS, 1), later)
    drawn = lines(scene, later)
    assert set(drawn) == {"executed", "chunk", "replaced"}
    np.testing.assert_allclose(drawn["executed"].places[:, 0], np.arange(1, 11) / 1000)
    assert set(drawn["replaced"].places[:, 1]) == {0.0} and len(drawn["replaced"].places) == 40
    np.testing.assert_allclose(drawn["replaced"].colours[0], REPLACED)
    assert set(drawn["chunk"].places[:, 1]) == {1.0}
    # A while later the way that was done goes over from the first chunk to the second.
    done = lines(scene, later + 100 * MS)["executed"].places
    np.testing.assert_array_equal(done[:, 1], [0] * 10 + [1] * 5)
    # What the first one wanted later is forgotten once its time is over.
    assert "replaced" not in lines(scene, NOW + 1001 * MS)


def test_the_trail_ends():
    scene = Scene()
    for k in range(60):
        scene.add(path(NOW + k * 100 * MS, k), NOW + k * 100 * MS)
    done = lines(scene, NOW + 5900 * MS)["executed"].places
    assert 95 <= len(done) <= 110, "two seconds of it, and no more"


def test_a_dry_run_is_not_joined_to_what_was_done():
    scene = Scene()
    scene.add(path(NOW, 0, executed=False), NOW)
    scene.add(path(NOW + 200 * MS, 1, executed=True), NOW + 200 * MS)
    drawn = lines(scene, NOW + 300 * MS)
    assert "passed" not in drawn
    assert set(drawn["executed"].places[:, 1]) == {1.0}


def test_rejected_chunks_stay_a_while():
    scene = Scene()
    scene.add(path(NOW), NOW)
    scene.reject(path(NOW, 7).places, "limits: lift is 0.4 rad off", NOW)
    drawn = lines(scene, NOW + 500 * MS)
    assert set(drawn["rejected"].places[:, 1]) == {7.0}
    np.testing.assert_allclose(drawn["rejected"].colours[0], REJECTED)
    assert scene.text(NOW).endswith("rejected: limits: lift is 0.4 rad off")
    assert "rejected" not in lines(scene, NOW + 1001 * MS)
    assert "rejected" not in scene.text(NOW + 1001 * MS)


def test_a_rejected_chunk_without_a_finite_step_is_told_by_the_text():
    scene = Scene()
    scene.reject(np.zeros((0, 3)), "nonfinite: step 0 of pan is nan", NOW)
    assert scene.lines(NOW) == []
    assert scene.text(NOW) == "rejected: nonfinite: step 0 of pan is nan"


def test_colours_differ():
    """People tell the parts apart by them."""
    colours = np.array([NEAR, FAR, EXECUTED, PASSED, REPLACED, REJECTED])[:, :3]
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert distances[~np.eye(6, dtype=bool)].min() > 0.25
