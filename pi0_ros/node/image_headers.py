"""The size of an image file by its header, before anything is decoded: JPEG, PNG and WebP."""

from __future__ import annotations

_PNG = b"\x89PNG\r\n\x1a\n"
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # JPEG's markers TEM, RST0 to RST7 and SOI
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # its start of frame; not DHT, JPG and DAC


def read_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """(width, height) in pixels; None where the data is no such file, or its header is damaged."""
    data = memoryview(data).cast("B")
    if data[:8] == _PNG and data[12:16] == b"IHDR" and len(data) >= 24:
        return _big(data[16:20]), _big(data[20:24])
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    return None


def count_scans(data: bytes | memoryview) -> int:
    """How many scans a JPEG has, each of which costs as much as the whole image; of others 0."""
    data = bytes(memoryview(data).cast("B"))
    return data.count(b"\xff\xda") if data[:2] == b"\xff\xd8" else 0


def _jpeg(data: memoryview) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a byte of filling
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        elif marker == 0:  # decoders skip it, and would find another size than this
            return None
        elif marker in _FRAMES:
            size = data[at + 5 : at + 9]  # length 2, precision 1, height 2, width 2
            return (_big(size[2:]), _big(size[:2])) if len(size) == 4 else None
        else:
            at += 2 + _big(data[at + 2 : at + 4])
    return None


def _webp(data: memoryview) -> tuple[int, int] | None:
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        return _little(data[24:27]) + 1, _little(data[27:30]) + 1
    if kind == b"VP8L":
        bits = _little(data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF
    return None


def _big(data: memoryview) -> int:
    return int.from_bytes(data, "big")


def _little(data: memoryview) -> int:
    return int.from_bytes(data, "little")
