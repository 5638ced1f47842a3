"""The demo's images: where the path is drawn, and what the files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.demo.drawing import (
    MAX_FRAMES,
    WIDTH,
    TipPath,
    ahead,
    captioned,
    draw_path,
    write_gif,
    write_png,
)
from pi0_ros.sim.expert import Expert
from pi0_ros.sim.stage import HOME, IMAGE_HEIGHT, IMAGE_WIDTH, JOINTS, TIP_SITE
from pi0_ros.sim.world import World

SECOND = 1_000_000_000
START = 5 * SECOND


def chunk_of(positions: Any, stamp: int = START, names: tuple[str, ...] = JOINTS) -> ChunkRecord:
    return ChunkRecord(
        stamp=stamp,
        sequence=0,
        instruction="touch the red cube",
        joint_names=names,
        positions=np.asarray(positions, np.float32),
        dt=0.04,
        camera_ages=(0.08, 0.06),
        inference_time=0.03,
    )


# ---- the path -----------------------------------------------------------------------------------


def test_the_path_ends_where_the_arm_will_touch() -> None:
    """The front camera shows the tip of a hand that is on an object where it shows the object."""
    path, seen = TipPath(), 0
    for seed in range(5):
        world = World(seed)
        for placement in world.placements:
            place = world.in_view(placement.thing, "front")
            if place is None:
                continue
            seen += 1
            pose = Expert(world).touch_pose(placement.thing)
            (pixel,) = path.of(chunk_of([pose]), START)
            expected = [(1 + place[0]) / 2 * IMAGE_WIDTH, (1 - place[1]) / 2 * IMAGE_HEIGHT]
            np.testing.assert_allclose(pixel, expected, atol=8)
    assert seen >= 10


def test_tip_positions_are_those_of_the_world() -> None:
    world, path = World(0), TipPath()
    rows = np.array(HOME) + np.random.default_rng(0).uniform(-0.3, 0.3, (4, len(JOINTS)))
    for row, place in zip(rows, path.tip_positions(rows), strict=True):
        world.place_arm(row)
        np.testing.assert_allclose(place, world.stage.data.site(TIP_SITE).xpos, atol=1e-9)


def test_ahead_begins_between_two_steps_and_ends_with_the_chunk() -> None:
    steps = np.arange(1, 11)[:, None] * np.arange(1.0, 7.0)  # step i is due at 0.04 * i
    chunk = chunk_of(steps)
    left = ahead(chunk, START + round(0.10 * SECOND))
    np.testing.assert_allclose(left[0], 2.5 * np.arange(1.0, 7.0), rtol=1e-6)
    np.testing.assert_allclose(left[1], 3.5 * np.arange(1.0, 7.0), rtol=1e-6)
    assert len(left) == 8
    np.testing.assert_allclose(ahead(chunk, START - SECOND)[0], steps[0], rtol=1e-6)
    assert ahead(chunk, START + SECOND).shape == (0, 6)


def test_ahead_takes_joints_by_name() -> None:
    names = JOINTS[::-1]
    left = ahead(chunk_of([np.arange(6.0)] * 3, names=names), START)
    np.testing.assert_allclose(left[0], np.arange(6.0)[::-1])
    with pytest.raises(ValueError, match="expected shoulder_pan"):
        ahead(chunk_of([[0.0]] * 3, names=("elbow",)), START)


# ---- images -------------------------------------------------------------------------------------


def test_the_path_is_drawn_into_a_copy() -> None:
    grey = np.full((480, 640, 3), 128, np.uint8)
    pixels = np.array([[100, 100], [300, 100], [np.nan, 5], [300, 400], [1e7, 0]])
    drawn = draw_path(grey, pixels)
    assert (grey == 128).all()
    red, green, blue = drawn[400, 300].astype(int)
    assert red > 200 and green < 60 and blue > 150, "its end is pink"
    assert (drawn[100, 110:290] != 128).all(axis=1).all()
    assert (drawn[200:, 320:] == 128).all() and (drawn[:90] == 128).all()
    for empty in (np.empty((0, 2)), np.full((3, 2), np.nan)):
        np.testing.assert_array_equal(draw_path(grey, empty), grey)


def test_a_caption_is_below_the_image() -> None:
    grey = np.full((480, 640, 3), 128, np.uint8)
    plain = captioned(grey, "", None)
    assert plain.shape[1] == WIDTH and plain.shape[0] > WIDTH * 3 // 4
    assert (plain[: WIDTH * 3 // 4] == 128).all()
    for right, channel in ((True, 1), (False, 0)):
        frame = captioned(grey, "touch the red cube: the blue plate, a very long caption", right)
        bar = frame[WIDTH * 3 // 4 :].astype(int)
        assert bar.sum(axis=(0, 1)).argmax() == channel
        assert (bar[:, -6:] == plain[-1, -1]).all(), "it fits"


def frames(count: int) -> list[np.ndarray]:
    """A pink square on its way over a grey gradient."""
    still = np.repeat(np.linspace(40, 200, 320).astype(np.uint8)[None, :, None], 270, axis=0)
    made = []
    for i in range(count):
        frame = np.repeat(still, 3, axis=2).copy()
        frame[100:120, 2 * i : 2 * i + 20] = (255, 30, 200)
        made.append(frame)
    return made


def test_a_gif_moves_and_repeats(tmp_path: Path) -> None:
    file = tmp_path / "a.gif"
    write_gif(file, frames(12))
    assert file.stat().st_size < 60_000
    with Image.open(file) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (12, (320, 270), 0)
        for i in (0, 5, 11):
            gif.seek(i)
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - frames(12)[i]).max() < 12, "grey as grey, the path's pink as pink"
            assert gif.info["duration"] == (1500 if i == 11 else 120)


def test_a_long_gif_leaves_frames_out(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", frames(150))
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == MAX_FRAMES
        gif.seek(MAX_FRAMES - 1)
        assert (
            np.abs(np.asarray(gif.convert("RGB"))[110, 308].astype(int) - (255, 30, 200)).max() < 5
        )


def test_a_gif_keeps_to_its_size(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 255, (2, 270, 320, 3), np.uint8))
    write_gif(tmp_path / "a.gif", noise, limit=1_000_000)
    many = (tmp_path / "a.gif").stat().st_size
    write_gif(tmp_path / "b.gif", noise, limit=many - 1)
    assert (tmp_path / "b.gif").stat().st_size < many
    with pytest.raises(ValueError, match=r"c\.gif: .* expected at most 30000"):
        write_gif(tmp_path / "c.gif", noise, limit=30_000)
    with pytest.raises(ValueError, match="no frames"):
        write_gif(tmp_path / "c.gif", [])


def test_a_png_has_its_frames_side_by_side(tmp_path: Path) -> None:
    file, made = tmp_path / "a.png", frames(3)
    write_png(file, made)
    with Image.open(file) as png:
        shown = np.asarray(png.convert("RGB")).astype(int)
    assert np.abs(shown - np.concatenate(made, axis=1)).max() < 12
    with pytest.raises(ValueError, match="no frames"):
        write_png(file, [])
