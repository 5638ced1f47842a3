"""The messages of the policy protocol: what comes through, and what anybody might send instead."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")

import msgpack
from support.policy_server import CAMERAS, card

from pi0_ros.policy.card import CardError, PolicyCard
from pi0_ros.serve.images import decode, encode, jpeg_size
from pi0_ros.serve.mapping import MAPPINGS, OWN, MappingError, read_mapping
from pi0_ros.serve.wire import WireError, pack, unpack

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 16, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["u1", "i2", "<f4", "f8", "?", "i8", "f2"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (4, 5, 3)])
def test_arrays_come_through(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(RNG.random(shape) * 100).astype(dtype)
    back = unpack(pack({"a": array}))["a"]
    if array.size:
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype and back.shape == array.shape
    assert np.asarray(back).size == array.size


def test_strided_arrays_and_scalars_come_through() -> None:
    message = {"bgr": IMAGE[..., ::-1], "n": np.float32(1.5), "b": np.bool_(True), "t": ["x", None]}
    back = unpack(pack(message))
    np.testing.assert_array_equal(back["bgr"], IMAGE[..., ::-1])
    assert back["n"] == 1.5 and back["n"].dtype == np.float32 and back["b"] and back["t"][0] == "x"


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["x"]), {1, 2}, 1j])
def test_nothing_else_is_sent(value: Any) -> None:
    with pytest.raises(TypeError):
        pack({"a": value})


def raw(**entries: Any) -> bytes:
    """A message with an array whose map has these entries."""
    array = {"__ndarray__": True, "data": b"\0" * 12, "dtype": "<f4", "shape": [3], **entries}
    return msgpack.packb({"a": {key.encode(): value for key, value in array.items()}})


def scalar(data: Any, dtype: str) -> bytes:
    return msgpack.packb({"a": {b"__npgeneric__": True, b"data": data, b"dtype": dtype}})


HOSTILE = {
    "object dtype": raw(dtype="|O"),
    "void dtype": raw(dtype="|V12"),
    "string dtype": raw(dtype="<U3"),
    "datetime dtype": raw(dtype="<M8[ns]"),
    "record dtype": raw(dtype="i4,i4"),
    "a dtype that is code": raw(dtype="__import__('os').system('true')"),
    "dtype that is bytes": raw(dtype=b"<f4"),
    "negative side": raw(shape=[-3]),
    "sides that overflow": raw(shape=[2**62, 4]),
    "huge side beside a 0": raw(shape=[0, 2**62], data=b""),
    "too many sides": raw(shape=[1] * 40, data=b"\0" * 4),
    "sides that are floats": raw(shape=[3.0]),
    "bool as a side": raw(shape=[True], data=b"\0" * 4),
    "too little data": raw(shape=[4]),
    "data that is text": raw(data="x" * 12),
    "shape that is a map": raw(shape={"a": 1}),
    "no dtype": raw(dtype=None),
    "list that claims 2 billion": b"\x81\xa1a\xdd\x7f\xff\xff\xff",
    "lists that claim, one in another": b"\x81\xa1a" + b"\xdc\x0f\xff" * 900,
    "map that claims 2 billion": b"\xdf\x7f\xff\xff\xff",
    "bytes that claim 2 billion": b"\x81\xa1a\xc6\x7f\xff\xff\xff",
    "depth": b"\x81\xa1a" + b"\x91" * 100_000 + b"\x00",
    "depth in place of the map": b"\x91" * 1010 + b"\x01",
    "millions of empty maps": b"\x81\xa1a\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x80" * 4095) * 4095,
    "depth of maps": b"\x81\xa1a" * 50_000 + b"\x00",
    "extension": msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    "time stamp": msgpack.packb({"a": msgpack.Timestamp(1, 1)}),
    "more behind it": pack({"a": 1}) + b"\x01",
    "text that is no UTF-8": b"\x81\xa1a\xa2\xff\xfe",
    "numbers as keys": msgpack.packb({1: 2}),
    "bytes as keys": msgpack.packb({b"a": 2}),
    "a list": msgpack.packb([1, 2]),
    "a number": msgpack.packb(3),
    "an array": pack({"a": np.zeros(3)})[3:],
    "scalar of text": msgpack.packb({"a": {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}}),
    "scalar too large": msgpack.packb(
        {"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}
    ),
    "keys without end": msgpack.packb({str(n): n for n in range(1000)}),
    "long text": msgpack.packb({"a": "x" * 100_000}),
    "pickle": b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused(name: str) -> None:
    if name == "huge side beside a 0":
        assert unpack(HOSTILE[name])["a"].size == 0
        return
    with bounded(), pytest.raises(WireError):
        unpack(HOSTILE[name])


@contextmanager
def bounded() -> Iterator[None]:
    """No code is run, no file opened, no time and no memory spent to speak of."""
    _WATCHED.clear()
    begun, size = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _WATCHING.append(True)
    try:
        yield
    finally:
        _WATCHING.pop()
    assert not _WATCHED, _WATCHED
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 200_000  # kB


_WATCHED: list[str] = []
_WATCHING: list[bool] = []
_CODE = (
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess.",
    "pickle.",
    "socket.",
    "ctypes.",
    "marshal.",
)


def _audit(event: str, arguments: Any) -> None:
    if _WATCHING and event.startswith(_CODE):
        _WATCHED.append(event)


sys.addaudithook(_audit)


# Images -------------------------------------------------------------------------------------------


def test_images_in_every_form() -> None:
    for sent in (IMAGE, np.moveaxis(IMAGE, 2, 0), IMAGE.astype(np.float32) / 255):
        np.testing.assert_allclose(decode(sent, "front"), IMAGE, atol=1)
    smooth = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    assert jpeg_size(encode(smooth)) == (64, 48)
    np.testing.assert_allclose(decode(encode(smooth), "front"), smooth, atol=4)
    assert decode(np.full((2, 2, 3), np.nan, np.float32), "front").max() == 0


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encode(IMAGE))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def jpeg_with_a_hidden_size(marker: int) -> bytes:
    """Decoders skip the marker, and the segment APP1 behind it, and find a huge image.

    A reader for which the marker has a length takes APP1's name for it, and lands inside APP1.
    """
    small = b"\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0"
    content = bytearray(0xFFFF - 2)
    at = 2 + 2 + 0xFFE1 - 8
    content[at : at + len(small)] = small
    head = b"\xff\xd8\xff" + bytes([marker]) + b"\xff\xe1\xff\xff"
    return head + bytes(content) + jpeg_that_claims(65535, 65535)[2:]


def jpeg_of_scans(count: int) -> bytes:
    """A JPEG that names its last scan again and again."""
    jpeg = encode(IMAGE)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * count + jpeg[-2:]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff\xd8",
        jpeg_of_scans(40),
        jpeg_with_a_hidden_size(0x00),
        jpeg_with_a_hidden_size(0x01),
        jpeg_with_a_hidden_size(0xD0),
        b"\xff\xd8\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        encode(IMAGE)[:60],
        jpeg_that_claims(65535, 65535),
        jpeg_that_claims(0, 0),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        np.zeros((3, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 5000, 3), np.uint8),
        "x",
        None,
    ],
)
def test_what_is_no_image_is_refused(sent: Any) -> None:
    with bounded(), pytest.raises(WireError, match="camera front"):
        decode(sent, "front")


# Fuzz ---------------------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    """Well-formed messages of both sides."""
    images = dict.fromkeys(CAMERAS, IMAGE)
    own = OWN.request(images, np.arange(3.0), "go")
    own["pi0_ros"] = {"id": 1, "reset": False, "prefix": {"positions": np.zeros((4, 3))}}
    packed = [pack(own), pack({"pi0_ros": {"version": 1, "card": card().to_document()}})]
    packed.append(
        pack({"images": {"front": encode(IMAGE), "wrist": IMAGE}, "state": [1.0], "prompt": "go"})
    )
    packed.append(pack({"actions": np.zeros((5, 3), np.float32), "policy_timing": {"infer_ms": 1}}))
    for mapping in MAPPINGS.values():
        images = dict.fromkeys(mapping.images.values(), IMAGE)
        packed.append(pack(mapping.request(images, np.arange(8.0), "go")))
    return packed


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out, doubled, exchanged with headers of msgpack, or the end cut."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        # Headers are among the first bytes of each part: most of a frame is pixels.
        at = rng.randrange(min(len(body), rng.choice((80, 700, 10_000)))) if body else 0
        kind = rng.randrange(6)
        if kind == 0 and body:
            body[at] = rng.randrange(256)
        elif kind == 1:
            del body[at : at + rng.randrange(1, 40)]
        elif kind == 2:
            body[at:at] = body[at : at + rng.randrange(1, 400)]
        elif kind == 3:
            header = rng.choice(
                (b"\xdd\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf", b"\xc7")
            )
            body[at:at] = header
        elif kind == 4 and body:
            body[at] ^= 1 << rng.randrange(8)
        else:
            del body[at:]
    return bytes(body)


def read_all(data: bytes) -> bool:
    """What both sides do with a message; whether it was well-formed."""
    try:
        message = unpack(data)
        for mapping in (OWN, *MAPPINGS.values()):
            cameras = CAMERAS if mapping.images is None else tuple(mapping.images.values())
            if mapping.fits(message, cameras):
                for camera, sent in mapping.read(message, cameras)[0].items():
                    decode(sent, camera)
        own = message.get("pi0_ros")
        if isinstance(own, dict) and "card" in own:
            PolicyCard.from_document(own["card"], "the server")
    except (WireError, CardError):
        return False
    return True


def fuzz(cases: int, seed: int) -> int:
    """Try so many mutations; returns how many were still well-formed."""
    rng = random.Random(seed)
    starts = seeds()
    assert all(map(read_all, starts))
    return sum(read_all(mutated(rng.choice(starts), rng)) for _ in range(cases))


def test_mutated_messages_crash_nothing() -> None:
    fuzz(50, seed=0)  # what is imported at first use
    with bounded():
        assert 0 < fuzz(300, seed=1) < 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 30))
def test_many_mutated_messages_crash_nothing(seed: int) -> None:
    fuzz(50, seed=0)
    with bounded_growth():
        assert 0 < fuzz(250, seed) < 250


@contextmanager
def bounded_growth() -> Iterator[None]:
    """As `bounded`, with more time, as it is for many."""
    _WATCHED.clear()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _WATCHING.append(True)
    try:
        yield
    finally:
        _WATCHING.pop()
    assert not _WATCHED, _WATCHED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 200_000  # kB


# Files of mappings --------------------------------------------------------------------------------


def test_a_mapping_of_a_file(tmp_path: Any) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("images: {obs/front: front}\nstate: {obs/arm: 6, obs/hand: 1}\nnested: true\n")
    mapping = read_mapping(str(file))
    request = mapping.request({"front": IMAGE}, np.arange(7.0), "go")
    assert set(request["obs"]) == {"front", "arm", "hand"}
    assert mapping.read(request, ("front",))[1].tolist() == list(range(7))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "expected a map"),
        ("images: 3\nstate: {a: 0}", "images must be"),
        ("images: {}\nstate: {}", "state must be one key"),
        ("images: {}\nstate: {a: 0, b: 1}", "state must be one key"),
        ("images: {}\nstate: {a: -1}", "state must be a map"),
        ("images: {}\nstate: {a: 0}\nnested: 3", "true or false"),
        ("images: {}\nstate: {a: 0}\nother: 3", "unknown keys"),
        ("images: [", "no YAML"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Any, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(MappingError, match=says):
        read_mapping(str(file))
    with pytest.raises(MappingError, match="neither one of droid"):
        read_mapping(str(tmp_path / "none.yaml"))
