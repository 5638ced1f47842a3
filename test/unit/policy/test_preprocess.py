"""Fitting images, against Pillow (openpi's resize); LeRobot's resize is in test/reference."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.policy.preprocess import fit_image, fit_pixels, shrink

OPENPI = ImageRule(antialias=True, centred=True)
NEW = ImageRule(antialias=False, centred=True)
OLD = ImageRule(antialias=False, centred=False)


def random_image(height: int, width: int) -> np.ndarray:
    """Smooth colours with a sharp grid in them."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 9 + c) * np.cos(y / (5 + c)) for c in range(3)]
    image = np.stack(waves, -1).astype(np.uint8)
    image[::16] = 255
    return image


@pytest.mark.parametrize("height,width", [(480, 640), (640, 480), (116, 116), (100, 500), (50, 60)])
def test_openpis_resize_is_pillows(height: int, width: int) -> None:
    image = random_image(height, width)
    ratio = max(height / 224, width / 224)
    h, w = int(height / ratio), int(width / ratio)
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (224, 224), 0)
    canvas.paste(resized, ((224 - w) // 2, (224 - h) // 2))
    expected = np.asarray(canvas, np.float32) / 255 * 2 - 1
    got = fit_image(image, 224, OPENPI).permute(1, 2, 0).numpy()
    # One grey level at most, where rounding differs.
    assert np.abs(got - expected).max() <= 1.01 / 127.5
    assert np.abs(got - expected).mean() < 0.1 / 127.5


def test_borders_are_black_where_the_format_has_them() -> None:
    white = np.full((120, 160, 3), 255, np.uint8)
    centred, old = fit_image(white, 64, OPENPI), fit_image(white, 64, OLD)
    assert (centred[:, :8] == -1).all() and (centred[:, 56:] == -1).all()
    assert (centred[:, 8:56] == 1).all()
    assert (old[:, :16] == -1).all() and (old[:, 16:] == 1).all()


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    image = random_image(64, 64)
    expected = image.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(fit_image(image, 64, OPENPI).numpy(), expected, atol=1e-6)


def test_views_are_taken_as_they_are() -> None:
    image = random_image(96, 128)
    swapped = np.ascontiguousarray(image[:, :, ::-1])
    for rule in (OPENPI, OLD):
        a, b = fit_image(image[:, :, ::-1], 64, rule), fit_image(swapped, 64, rule)
        assert (a == b).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image must be"):
        fit_image(image, 64, OPENPI)


def test_images_of_messages_are_read_without_a_warning():
    """They are views of bytes that must not be written to, of which torch warns."""
    image = np.frombuffer(bytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_image(image, 16, OLD)
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (300, 301), (100, 80), (224, 224)])
@pytest.mark.parametrize("antialias", [False, True])
def test_what_is_shrunk_before_is_fitted_alike(shape: tuple[int, int], antialias: bool) -> None:
    """A client shrinks and the server fits: as good as fitting at once, but for rounding."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)[..., ::-1]
    rule = ImageRule(antialias=antialias, centred=True)
    small = shrink(image, 224, antialias)
    assert small.dtype == np.uint8 and max(small.shape) <= 224
    difference = (fit_image(small, 224, rule) - fit_image(image, 224, rule)).abs().max()
    assert difference <= (1e-6 if antialias else 1.0 / 127.5)


@pytest.mark.parametrize("rule", [OPENPI, NEW, OLD], ids=["openpi", "LeRobot", "LeRobot 0.3"])
@pytest.mark.parametrize(
    "height,width,size",
    [
        (480, 640, 224),
        (720, 1280, 224),
        (224, 224, 224),
        (64, 48, 224),
        (333, 97, 64),
        (3, 400, 64),
        (1080, 1920, 64),
    ],
)
def test_a_device_fits_images_to_within_a_step_of_a_colour(
    rule: ImageRule, height: int, width: int, size: int
) -> None:
    """On CPU tensors; a GPU computes the same filter in the same precision."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
    for image in (noise, ramp):
        expected = fit_image(image, size, rule)
        got = fit_pixels(torch.from_numpy(image), size, rule)
        steps = (got - expected).abs() * 127.5
        # Sums are exact, and so are results, unless an image shrinks a lot.
        assert steps.max() <= (1.001 if max(height, width) > 4 * size else 0.001)
        assert (steps > 0.001).float().mean() <= 1e-4
