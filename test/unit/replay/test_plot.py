import numpy as np
import pytest

from pi0_ros.bags.chunks import ChunkRecord

plot = pytest.importorskip("pi0_ros.replay.plot", reason="matplotlib is not installed")
cv2 = pytest.importorskip("cv2")

START = 1_700_000_000_000_000_000


def chunks(joints: int, count: int = 5) -> list[ChunkRecord]:
    names = tuple(f"joint{k}" for k in range(joints))
    ramp = np.linspace(0, 1, 50, dtype=np.float32)[:, None].repeat(joints, 1)
    return [
        ChunkRecord(START + k * 10**9, k, "", names, ramp + k, 0.02, (0.02,), 0.1)
        for k in range(count)
    ]


def recorded(joints: int) -> dict:
    times = START + np.arange(0, 5 * 10**9, 10**7)
    return {f"joint{k}": (times, np.sin(np.arange(len(times)) / 50)) for k in range(joints)}


@pytest.mark.parametrize("joints", [1, 7])
def test_the_plot_shows_paths_in_colour_and_the_recorded_line_in_black(tmp_path, joints):
    path = tmp_path / "chunks.png"
    plot.plot_chunks(path, chunks(joints), recorded(joints), START, "demo")
    with_line = cv2.imread(str(path)).astype(int)
    plot.plot_chunks(path, chunks(joints), {}, START, "demo")
    without_line = cv2.imread(str(path)).astype(int)

    def coloured(image: np.ndarray) -> int:
        # Left of the colour bar; ticks, grid and text are grey.
        part = image[:, : int(image.shape[1] * 0.8)]
        return int(((part.max(2) - part.min(2)) > 60).sum())

    def black(image: np.ndarray) -> int:
        return int((image.max(2) < 40).sum())

    assert coloured(without_line) > 100 * joints
    assert black(with_line) > black(without_line) + 300 * joints


def test_a_path_starts_one_step_after_its_observation():
    figure, axes = plot.panels(1, 1, (4, 2), 0.0, 90)
    ramp = np.linspace(3.0, 4.0, 50)[:, None]
    plot.draw_paths(figure, axes, ["a"], np.array([3.0]), [ramp], 0.02, {}, ["m"])
    assert axes[0, 0].get_ylabel() == "m"
    (path,) = axes[0, 0].collections[0].get_segments()
    assert path.shape == (50, 2)
    np.testing.assert_allclose(path[0], [3.02, 3.0], atol=1e-6)
    np.testing.assert_allclose(path[-1], [4.0, 4.0], atol=1e-6)


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no chunks"):
        plot.plot_chunks(tmp_path / "x.png", [], {}, START)
