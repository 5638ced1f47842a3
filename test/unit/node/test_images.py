"""Image conversion: random images through every encoding, and what must be refused."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.node.image_headers import read_size
from pi0_ros.node.images import MAX_SIDE, SUPPORTED, ImageError, check, decompress, to_rgb

CHANNELS = {"rgb8": "rgb", "bgr8": "bgr", "rgba8": "rgba", "bgra8": "bgra"}
CHANNELS |= {"8UC3": "bgr", "8UC4": "bgra"}
WIDE = {"rgb16": "rgb", "bgr16": "bgr", "rgba16": "rgba", "bgra16": "bgra"}
WIDE |= {"16UC3": "bgr", "16UC4": "bgra"}
VIEWS = (*CHANNELS, *WIDE, "mono8", "8UC1", "mono16", "16UC1")
PATTERNS = ("rggb", "bggr", "gbrg", "grbg")
CONVERTED = ("yuyv", "yuv422_yuy2", "uyvy", "yuv422", "nv12", "nv21")
CONVERTED = (*CONVERTED, *(f"bayer_{name}{bits}" for name in PATTERNS for bits in (8, 16)))
ALL = (*VIEWS, *CONVERTED)


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


@pytest.mark.parametrize("encoding", VIEWS)
def test_no_copy_is_made(encoding):
    depth = len({**CHANNELS, **WIDE}.get(encoding, "1")) * (2 if "16" in encoding else 1)
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
    st.sampled_from([*ALL, "", "nv24", "32FC1"]),
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


def test_other_encodings_are_refused_by_name():
    image = message(np.zeros((4, 6, 4), np.uint8), "32FC1")
    for judge in (to_rgb, lambda image: check(image, "raw")):
        with pytest.raises(ImageError, match=r"'32FC1' is not one of rgb8.*nv12"):
            judge(image)


def test_capital_letters_of_an_encoding_do_not_matter():
    np.testing.assert_array_equal(to_rgb(message(IMAGE, "RGB8")), IMAGE)


@given(sizes, sizes, st.integers(0, 5), st.sampled_from(list(WIDE)), st.booleans())
def test_colour_of_16_bits_keeps_its_high_bytes(height, width, padding, encoding, big):
    order = WIDE[encoding]
    image = np.random.default_rng(width).integers(0, 2**16, (height, width, 4), np.uint16)
    stored = np.ascontiguousarray(image[..., ["rgba".index(channel) for channel in order]])
    stored = stored.astype(">u2" if big else "<u2").view(np.uint8)
    out = to_rgb(message(stored.reshape(height, width, -1), encoding, padding, big))
    np.testing.assert_array_equal(out, image[..., :3] // 256)


SCENE = np.zeros((48, 64, 3), np.uint8)
SCENE[:, :32] = 200, 40, 10
SCENE[:, 32:] = 20, 150, 90
PLACES = (slice(8, 40), slice(8, 24)), (slice(8, 40), slice(40, 56))
"""Away from the edge between the two colours."""


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_mosaics(pattern, wide):
    mosaic = np.zeros(SCENE.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        y, x = divmod(place, 2)
        mosaic[y::2, x::2] = SCENE[y::2, x::2, "rgb".index(colour)]
    stored = mosaic[..., None]
    if wide:
        stored = np.stack([np.full_like(mosaic, 7), mosaic], axis=-1)
    out = to_rgb(message(stored, f"bayer_{pattern}{16 if wide else 8}", padding=3))
    for place in PLACES:
        np.testing.assert_array_equal(out[place], SCENE[place])


def yuv(rgb: np.ndarray) -> np.ndarray:
    """BT.601 with limited range, as cameras send it, from the standard's numbers."""
    matrix = np.array(
        [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    )
    return (rgb / 255 @ matrix.T + [16, 128, 128]).round().astype(np.uint8)


@pytest.mark.parametrize("encoding", ["yuyv", "yuv422_yuy2", "uyvy", "yuv422", "nv12", "nv21"])
def test_yuv(encoding):
    y, u, v = np.moveaxis(yuv(SCENE), -1, 0)
    if encoding.startswith("nv"):
        planes = [u[::2, ::2], v[::2, ::2]]
        colours = np.stack(planes if encoding == "nv12" else planes[::-1], axis=-1)
        stored = np.concatenate([y, colours.reshape(-1, y.shape[1])])
        image = message(stored[..., None], encoding, padding=4)
        image.height = len(y)
    else:
        chroma = np.where(np.arange(y.shape[1]) % 2, v, u)
        first = encoding in ("yuyv", "yuv422_yuy2")
        image = message(np.stack([y, chroma] if first else [chroma, y], axis=-1), encoding, 4)
    check(image, "raw")
    out = to_rgb(image)
    assert out.shape == SCENE.shape
    for place in PLACES:
        np.testing.assert_allclose(out[place].astype(int), SCENE[place], atol=3)


@pytest.mark.parametrize(
    ("encoding", "depth", "height", "width", "says"),
    [
        ("yuyv", 2, 4, 5, "yuyv image of 5 x 4: width must be even"),
        ("nv12", 1, 3, 4, "width and height must be even"),
        ("nv12", 1, 4, 4, "16 bytes of data, but step \\* height \\* 3/2"),
    ],
)
def test_yuv_of_wrong_sizes_is_refused(encoding, depth, height, width, says):
    image = message(np.zeros((height, width, depth), np.uint8), encoding)
    with pytest.raises(ImageError, match=says):
        check(image, "raw")


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
        ("jpeg", b"not an image", "cannot decode it; expected a JPEG"),
        ("h264", b"\0\0\0\1\x67\x42" + bytes(200), "expected a JPEG"),
        ("png", compressed(IMAGE, "png").data[:40], "cannot decode it; the file is damaged"),
        ("16UC1; compressedDepth png", b"x" * 50, "compressedDepth is no colour image"),
    ],
)
def test_bad_compressed_images_are_refused(form, data, says):
    with pytest.raises(ImageError, match=says) as error:
        decompress(SimpleNamespace(format=form, data=data))
    assert form in str(error.value)


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that says it is so large."""
    data = compressed(IMAGE, "png").data
    return data[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png_header(30_000, 30_000), "size 30000 x 30000: each side must be in"),
        (png_header(0, 5), "size 0 x 5"),
        (png_header(16_000, 16_000), "16000 x 16000 pixels, at most"),
    ],
)
def test_a_file_that_would_fill_the_memory_is_not_decoded(data, says, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    image = SimpleNamespace(format="png", data=data)
    for judge in (decompress, lambda image: check(image, "compressed")):
        with pytest.raises(ImageError, match=says):
            judge(image)


@pytest.mark.parametrize(
    ("extension", "flags"),
    [
        (".png", ()),
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
        (".webp", ()),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),  # lossless: another kind of chunk
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (640, 480), (3, 1001)])
def test_sizes_are_read_from_the_header(extension, flags, size):
    width, height = size
    data = cv2.imencode(extension, np.zeros((height, width, 3), np.uint8), flags)[1].tobytes()
    assert read_size(data) == size
    np.testing.assert_equal(decompress(SimpleNamespace(format="", data=data)).shape[:2], size[::-1])


def test_the_thumbnail_in_a_jpeg_is_not_its_size():
    small, large = (
        cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8))[1].tobytes() for side in (8, 90)
    )
    segment = b"Exif\0\0" + small
    marker = b"\xff\xff\xe1" + (len(segment) + 2).to_bytes(2, "big")
    assert read_size(large[:2] + marker + segment + large[2:]) == (90, 90)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF"]))
def test_any_bytes_have_a_size_or_none(data, start):
    size = read_size(start + data)
    assert size is None or all(side >= 0 for side in size)


def test_a_jpeg_of_many_scans_is_refused():
    """Each costs as much as decoding the whole image."""
    _, data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    data = data.tobytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    many = data[:-2] + scan * 40 + data[-2:]
    with pytest.raises(ImageError, match="more than 32 scans"):
        decompress(SimpleNamespace(format="jpeg", data=many))


def test_a_marker_that_decoders_skip_hides_no_size():
    _, data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    data = data.tobytes()
    assert read_size(data) == (16, 16)
    assert read_size(data[:2] + b"\xff\x00" + data[2:]) is None
