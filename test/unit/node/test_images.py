"""Image conversion: random images through every encoding, and what must be refused."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.node.images import MAX_SIDE, SUPPORTED, ImageError, decompress, to_rgb

CHANNELS = {"rgb8": "rgb", "bgr8": "bgr", "rgba8": "rgba", "bgra8": "bgra"}
ALL = (*CHANNELS, "mono8", "8UC1", "mono16", "16UC1")


def message(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False):
    """An Image of [H, W, bytes per pixel] uint8 with `padding` bytes of 0xEE after each row."""
    height, width, depth = pixels.shape
    rows = np.full((height, width * depth + padding), 0xEE, np.uint8)
    rows[:, : width * depth] = pixels.reshape(height, -1)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=rows.shape[1],
        data=rows.tobytes(),
    )


sizes = st.integers(1, 17)


def test_every_supported_encoding_is_tried_here():
    assert sorted(SUPPORTED) == sorted(ALL)


@given(sizes, sizes, st.integers(0, 9), st.sampled_from(list(CHANNELS)), st.integers(0, 2**32 - 1))
def test_colour(height, width, padding, encoding, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    stored = image[..., ["rgba".index(channel) for channel in CHANNELS[encoding]]]
    out = to_rgb(message(stored, encoding, padding, big=bool(seed % 2)))
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, image[..., :3])


@given(sizes, sizes, st.integers(0, 9), st.sampled_from(["mono8", "8UC1"]), st.integers(0, 99))
def test_grey(height, width, padding, encoding, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    out = to_rgb(message(grey, encoding, padding))
    np.testing.assert_array_equal(out, grey.repeat(3, axis=2))


@given(
    sizes,
    sizes,
    st.integers(0, 9),
    st.sampled_from(["mono16", "16UC1"]),
    st.booleans(),
    st.integers(0, 99),
)
def test_grey_of_16_bits_keeps_its_high_byte(height, width, padding, encoding, big, seed):
    grey = np.random.default_rng(seed).integers(0, 2**16, (height, width), np.uint16)
    stored = grey.astype(">u2" if big else "<u2").view(np.uint8).reshape(height, width, 2)
    out = to_rgb(message(stored, encoding, padding, big))
    np.testing.assert_array_equal(out, (grey // 256)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("encoding", ALL)
def test_no_copy_is_made(encoding):
    depth = len(CHANNELS[encoding]) if encoding in CHANNELS else 2 if "16" in encoding else 1
    image = message(np.zeros((4, 6, depth), np.uint8), encoding, padding=3)
    image.data = bytearray(image.data)
    out = to_rgb(image)
    assert out.shape == (4, 6, 3) and not out.any()
    image.data[:] = b"\xff" * len(image.data)
    assert (out == 255).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": b""}, "0 bytes of data"),
        ({"data": bytes(71)}, "71 bytes of data"),
        ({"data": bytes(73)}, "73 bytes of data"),
        ({"height": 5}, "72 bytes of data"),
        ({"step": 17}, "step is 17 bytes, a row needs 18"),
        ({"step": 0, "data": b""}, "step is 0 bytes"),
        ({"width": 0}, "size 0 x 4"),
        ({"height": 0, "data": b""}, "size 6 x 0"),
        ({"width": MAX_SIDE + 1}, f"in [1, {MAX_SIDE}]"),
        ({"height": 2**32 - 1}, "size 6 x 4294967295"),
        ({"encoding": "rgba8"}, "a row needs 24"),
    ],
)
def test_malformed_images_are_refused(change, says):
    image = message(np.zeros((4, 6, 3), np.uint8), "rgb8")
    vars(image).update(change)
    with pytest.raises(ImageError) as error:
        to_rgb(image)
    assert says in str(error.value)


@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 80),
    st.binary(max_size=200),
    st.sampled_from([*ALL, "", "yuv422", "32FC1"]),
)
def test_any_message_gives_an_image_or_an_image_error(height, width, step, data, encoding):
    image = SimpleNamespace(
        height=height, width=width, step=step, data=data, encoding=encoding, is_bigendian=0
    )
    try:
        out = to_rgb(image)
    except ImageError:
        return
    assert out.shape == (height, width, 3) and out.dtype == np.uint8


def fake_cv_bridge(monkeypatch, convert):
    class CvBridge:
        def imgmsg_to_cv2(self, image, desired_encoding):
            assert desired_encoding == "rgb8"
            return convert(image)

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))


def test_other_encodings_go_to_cv_bridge(monkeypatch):
    image = message(np.zeros((4, 6, 2), np.uint8), "yuv422")
    fake_cv_bridge(monkeypatch, lambda image: np.full((4, 6, 3), 9, np.uint8))
    assert (to_rgb(image) == 9).all()
    fake_cv_bridge(monkeypatch, lambda image: np.zeros((4, 6), np.uint16))
    with pytest.raises(ImageError, match="returned uint16"):
        to_rgb(image)


def test_other_encodings_are_refused_by_name(monkeypatch):
    image = message(np.zeros((4, 6, 2), np.uint8), "yuv422")
    monkeypatch.setitem(sys.modules, "cv_bridge", None)  # its import fails
    with pytest.raises(ImageError, match=r"'yuv422' is not one of rgb8.*cv_bridge.*not usable"):
        to_rgb(image)
    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace())  # an attribute is missing
    with pytest.raises(ImageError, match="not usable"):
        to_rgb(image)

    def broken(image):
        raise AttributeError("_ARRAY_API not found")

    fake_cv_bridge(monkeypatch, broken)
    with pytest.raises(ImageError, match="refuses it: _ARRAY_API"):
        to_rgb(image)


def compressed(image: np.ndarray, form: str, extension: str = ".png"):
    """`image` is RGB; OpenCV writes files of the usual kind from BGR."""
    data = cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
    return SimpleNamespace(format=form, data=data)


IMAGE = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("form", ["png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8"])
def test_png(form):
    np.testing.assert_array_equal(decompress(compressed(IMAGE, form)), IMAGE)


def test_png_that_the_sender_wrote_with_swapped_colours():
    swapped = compressed(IMAGE[..., ::-1], "rgb8; png compressed rgb8")
    np.testing.assert_array_equal(decompress(swapped), IMAGE)


@pytest.mark.parametrize("form", ["jpeg", "rgb8; jpeg compressed bgr8"])
def test_jpeg(form):
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200
    out = decompress(compressed(image, form, ".jpg"))
    np.testing.assert_allclose(out.astype(int), image, atol=4)


def test_grey_files_become_three_channels():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    data = cv2.imencode(".png", grey)[1].tobytes()
    out = decompress(SimpleNamespace(format="mono8; png compressed mono8", data=data))
    np.testing.assert_array_equal(out, grey[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(
    ("form", "data", "says"),
    [
        ("jpeg", b"", "no data"),
        ("jpeg", b"not an image", "cannot decode"),
        ("png", compressed(IMAGE, "png").data[:40], "cannot decode"),
        ("16UC1; compressedDepth png", b"x" * 50, "compressedDepth is no colour image"),
    ],
)
def test_bad_compressed_images_are_refused(form, data, says):
    with pytest.raises(ImageError, match=says) as error:
        decompress(SimpleNamespace(format=form, data=data))
    assert form in str(error.value)
