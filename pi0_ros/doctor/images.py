"""Judging images: encodings, sizes, cameras that are frozen, dark or without colour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.doctor.samples import Collected, ImageSample
from pi0_ros.node.interface import Interface

ONE_COLOUR = 2
"""Levels of 255 within which an image counts as of one colour."""

_GREY_16 = re.compile(r"(mono16|16UC1)\b")
_OF_COLOUR = re.compile(r"rgb|bgr|bayer_|yuv|yuyv|uyvy|nv\d\d|[0-9]+[SU]C[34]", re.IGNORECASE)
_UNORDERED = ("8UC3", "8UC4", "16UC3", "16UC4")


def judge_images(interface: Interface, collected: Collected) -> list[Finding]:
    findings: list[Finding] = []
    for camera in interface.parameters.cameras:
        samples = collected.images[camera.name]
        if samples:
            findings += _readable(camera.name, samples)
            whole = [sample for sample in samples if not sample.problem]
            findings += _frozen(camera.name, whole, interface.parameters.frozen_frames)
    return findings


def _readable(camera: str, samples: Sequence[ImageSample]) -> Iterator[Finding]:
    bad = [sample.problem for sample in samples if sample.problem]
    kinds = Counter(sample.encoding for sample in samples)
    sizes = Counter(sample.size for sample in samples if sample.size)
    shown = [f"{width} x {height}" for width, height in sizes]
    text = f"camera {camera}: {' and '.join(shown)}, {' and '.join(kinds)}"
    kind = next(iter(kinds))
    if bad:
        text = f"camera {camera}: {len(bad)} of {len(samples)} cannot be read: {bad[0]}"
        wrong_encoding = bad[0].startswith("encoding")
        advice = "choose another encoding in the driver (rgb8, bgr8, mono8, ...)"
        yield fail("image", text, advice if wrong_encoding else "the driver sends damaged images")
    elif len(kinds) > 1 or len(sizes) > 1:
        yield warn("image", f"{text}: it changes", "two publishers on one topic?")
    elif _GREY_16.match(kind):
        yield warn("image", f"{text}: 16 bit grey", "a depth camera? pi0 needs colour")
    elif kind in ("mono8", "8UC1"):
        yield warn("image", f"{text}: grey", "pi0 was trained on colour")
    else:
        yield from _colour(text, kind, samples)
    spreads = [sample.spread for sample in samples if sample.spread is not None]
    if spreads and max(spreads) <= ONE_COLOUR:
        text = f"camera {camera}: its images are of one colour"
        yield warn("image", text, "lens cap, no light, or a driver that sends nothing")


def _colour(text: str, kind: str, samples: Sequence[ImageSample]) -> Iterator[Finding]:
    """Colours that a transport took away or swapped, and orders that nobody states."""
    source, _, form = kind.partition(";")
    seen = [s.grey for s in samples if s.grey is not None and (s.spread or 0) > ONE_COLOUR]
    if seen and all(seen):
        if form and _OF_COLOUR.match(source):
            text = f"{text}: every image is grey, although its source {source} has colour"
            advice = (
                "the transport sent the mosaic or the brightness alone: convert to rgb8 before it"
                " (image_proc, or the driver), or take the raw topic (image_transport: raw)"
            )
            yield fail("image", text, advice)
        else:
            yield warn("image", f"{text}: every image is grey", "pi0 was trained on colour")
    elif "compressed rgb" in form:
        text = f"{text}: it says that the file was written with red and blue swapped"
        advice = (
            "look at an image (pi0 view, rqt): where the file is a proper one, colours arrive"
            " swapped; its sender should write `compressed bgr8`, as image_transport does"
        )
        yield warn("image", text, advice)
    elif kind in _UNORDERED:
        text = f"{text}: names no order of the colours; blue, green, red is assumed"
        yield warn("image", text, "set the encoding to bgr8 or rgb8 in the publisher")
    else:
        yield ok("image", text)


def _frozen(camera: str, samples: Sequence[ImageSample], limit: int) -> Iterator[Finding]:
    """A camera that repeats one image while its stamps advance."""
    longest = run = 1
    for before, sample in pairwise(samples):
        repeats = sample.digest == before.digest and sample.stamp > before.stamp
        run = run + 1 if repeats else 1
        longest = max(longest, run)
    text = f"camera {camera}: {longest} equal images in a row"
    advice = "restart its driver; for a simulated camera that stands still set frozen_frames to 0"
    if limit and longest >= limit:
        yield fail("frozen", f"{text} (the node refuses from {limit})", advice)
    elif longest > 2 and longest == len(samples):
        yield warn("frozen", f"{text}, all that came", advice)
    elif len(samples) > 1:
        yield ok("frozen", f"camera {camera}: images change ({longest} equal at most)")
