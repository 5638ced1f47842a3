"""The simulated robot's pace, tally and cameras, without ROS."""

import json
import threading

import cv2
import numpy as np
import pytest

from pi0_ros.errors import UserError
from pi0_ros.sim.cameras import Cameras, Images, Moment
from pi0_ros.sim.pace import MAX_LAG, Pace
from pi0_ros.sim.stage import CAMERAS, RenderError
from pi0_ros.sim.tally import Score
from pi0_ros.sim.window import Window
from pi0_ros.sim.world import World

MS = 1_000_000
STEP = 10 * MS
NOW = 1_790_000_000_000_000_000


class Clocks:
    """A steady and a system clock to set."""

    def __init__(self) -> None:
        self.steady, self.system = 77, NOW

    def pace(self, speed: float = 1.0, own_clock: bool = False) -> Pace:
        return Pace(STEP, speed, own_clock, steady=lambda: self.steady, system=lambda: self.system)

    def pass_ms(self, ms: float) -> None:
        self.steady += round(ms * MS)
        self.system += round(ms * MS)


def test_real_time_steps_end_when_they_are_due() -> None:
    clocks = Clocks()
    pace = clocks.pace()
    assert pace.steps() == [] and pace.wait() == pytest.approx(0.010)
    clocks.pass_ms(7)
    assert pace.steps() == [] and pace.wait() == pytest.approx(0.003)
    clocks.pass_ms(28)
    assert pace.now == NOW + 35 * MS
    assert pace.steps() == [NOW + 10 * MS, NOW + 20 * MS, NOW + 30 * MS]
    assert pace.steps() == [] and pace.wait() == pytest.approx(0.005)
    assert pace.left_out == 0


def test_a_clock_that_is_set_is_followed() -> None:
    clocks = Clocks()
    pace = clocks.pace()
    clocks.pass_ms(10)
    clocks.system += 3_600_000 * MS
    assert pace.steps() == [NOW + 10 * MS + 3_600_000 * MS]


def test_time_that_cannot_be_made_up_for_is_left_out() -> None:
    """As when the process was stopped."""
    clocks = Clocks()
    pace = clocks.pace()
    clocks.pass_ms(60_000)
    ends = pace.steps()
    assert pace.left_out == pytest.approx(60 - 0.01 - MAX_LAG)
    assert len(ends) == round(MAX_LAG / 0.01) + 1
    assert ends[-1] == NOW + 60_000 * MS, "and the last one is now"


def test_simulated_time_begins_anew_and_runs_at_its_speed() -> None:
    clocks = Clocks()
    pace = clocks.pace(4.0, own_clock=True)
    assert pace.now == STEP, "0 would be no time"
    assert pace.wait() == pytest.approx(0.0025)
    clocks.pass_ms(10)
    assert pace.steps() == [2 * STEP, 3 * STEP, 4 * STEP, 5 * STEP]
    assert pace.now == 5 * STEP


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_speeds_that_are_none(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pace(STEP, speed, own_clock=True)


def test_real_time_has_one_speed() -> None:
    with pytest.raises(ValueError, match="simulated time"):
        Pace(STEP, 2.0)


def tally(score: Score) -> dict:
    return json.loads(score.as_json(3, ("touch the red cube", "touch the red plate")))


def test_the_tally() -> None:
    score = Score()
    assert not score.waiting and tally(score)["right"] is None
    score.begin("touch the red cube", ("red cube",), NOW)
    assert score.waiting and tally(score)["touched"] is None
    assert score.touch("red plate", NOW + 1500 * MS) is False
    assert not score.waiting
    assert tally(score) == {
        "scene": 3,
        "instructions": ["touch the red cube", "touch the red plate"],
        "instruction": "touch the red cube",
        "touched": "red plate",
        "right": False,
        "seconds": 1.5,
        "tries": 1,
        "successes": 0,
    }
    score.begin("touch the red plate", ("red plate", "red cube"), NOW + 2000 * MS)
    assert tally(score)["right"] is None and tally(score)["seconds"] is None
    assert score.touch("red plate", NOW + 2250 * MS) is True
    assert (tally(score)["tries"], tally(score)["successes"]) == (2, 1)
    score.begin("touch the red cube", ("red cube",), NOW)  # never touched: a try all the same
    score.forget()
    assert not score.waiting
    assert (tally(score)["tries"], tally(score)["successes"]) == (3, 1)


def rendered(cameras: Cameras, ready: threading.Event) -> Images:
    assert ready.wait(20)
    ready.clear()
    images = cameras.take()
    assert images is not None
    return images


@pytest.mark.parametrize("compressed", [False, True])
def test_cameras_show_the_moment_that_was_asked_for(compressed: bool) -> None:
    ready = threading.Event()
    cameras = Cameras("touch", compressed, ready.set)
    world = World(5)
    try:
        for seed, joint in ((0, 0.4), (5, -0.7)):
            world.reset(seed)
            world.place_arm(world.positions + np.array([joint, 0, 0, 0, 0, 0]))
            state = world.stage.data.qpos.copy()
            assert cameras.take() is None
            assert cameras.request(Moment(NOW + seed, seed, state))
            images = rendered(cameras, ready)
            assert images.stamp == NOW + seed
            for camera, expected in world.images().items():
                data = np.frombuffer(images.data[camera], np.uint8)
                if compressed:
                    got = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
                else:
                    got = data.reshape(expected.shape)
                off = np.abs(got.astype(int) - expected).mean()
                assert off < (3.0 if compressed else 0.01), (camera, off)
                assert expected.std() > 10
    finally:
        world.close()
        cameras.close()
    assert set(images.data) == set(CAMERAS)


def test_cameras_drop_what_they_have_no_time_for() -> None:
    ready = threading.Event()
    cameras = Cameras("touch", False, ready.set)
    world = World(0)
    state = world.stage.data.qpos.copy()
    try:
        assert cameras.request(Moment(1, 0, state))
        assert not cameras.request(Moment(2, 0, state))
        assert rendered(cameras, ready).stamp == 1
        assert cameras.request(Moment(3, 0, state))
        assert rendered(cameras, ready).stamp == 3
    finally:
        cameras.close()


def test_an_error_of_rendering_reaches_who_asks_for_the_images() -> None:
    ready = threading.Event()
    cameras = Cameras("touch", False, ready.set)
    assert cameras.request(Moment(1, 0, np.zeros(3)))
    assert ready.wait(20)
    with pytest.raises(ValueError, match="broadcast"):
        cameras.take()
    cameras.close()


def test_without_opengl_cameras_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_images(world: World) -> None:
        raise RenderError("no OpenGL")

    monkeypatch.setattr(World, "images", no_images)
    with pytest.raises(RenderError, match="no OpenGL"):
        Cameras("touch", False, lambda: None)


def test_no_window_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UserError, match="neither DISPLAY nor WAYLAND_DISPLAY"):
        Window(World(0))
