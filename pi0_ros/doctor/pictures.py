"""Judging pictures: encodings, sizes, cameras that are frozen, dark or not colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.samples import Collected, ImageSample, Settings

ONE_COLOUR = 2
"""Levels of 255 within which a picture counts as of one colour."""


def judge_pictures(settings: Settings, collected: Collected) -> list[Finding]:
    """All findings about what the cameras show."""
    findings: list[Finding] = []
    for camera in settings.parameters.cameras:
        samples = collected.images[camera.name]
        if samples:
            findings += _readable(camera.name, samples)
            whole = [sample for sample in samples if not sample.problem]
            findings += _frozen(camera.name, whole, settings.parameters.frozen_frames)
    return findings


def _readable(camera: str, samples: Sequence[ImageSample]) -> Iterator[Finding]:
    bad = [sample.problem for sample in samples if sample.problem]
    kinds = Counter(sample.encoding for sample in samples)
    sizes = Counter(sample.size for sample in samples if sample.size)
    shown = [f"{width} x {height}" for width, height in sizes]
    text = f"camera {camera}: {' and '.join(shown)}, {' and '.join(kinds)}"
    if bad:
        yield Finding(
            FAIL,
            "picture",
            f"camera {camera}: {len(bad)} of {len(samples)} cannot be read: {bad[0]}",
            "choose another encoding in the driver (rgb8, bgr8, mono8, ...)"
            if bad[0].startswith("encoding")
            else "the driver sends damaged pictures",
        )
    elif len(kinds) > 1 or len(sizes) > 1:
        yield Finding(WARN, "picture", f"{text}: it changes", "two publishers on one topic?")
    elif "16" in next(iter(kinds)):
        yield Finding(WARN, "picture", f"{text}: 16 bit grey", "a depth camera? pi0 wants colour")
    elif next(iter(kinds)) in ("mono8", "8UC1"):
        yield Finding(WARN, "picture", f"{text}: grey", "pi0 was trained on colour")
    else:
        yield Finding(PASS, "picture", text)
    spreads = [sample.spread for sample in samples if sample.spread is not None]
    if spreads and max(spreads) <= ONE_COLOUR:
        text = f"camera {camera}: its pictures are of one colour"
        yield Finding(WARN, "picture", text, "lens cap, no light, or a driver that sends nothing")


def _frozen(camera: str, samples: Sequence[ImageSample], most: int) -> Iterator[Finding]:
    """A camera that repeats one picture while its stamps advance."""
    longest = run = 1
    for before, sample in pairwise(samples):
        repeats = sample.digest == before.digest and sample.stamp > before.stamp
        run = run + 1 if repeats else 1
        longest = max(longest, run)
    text = f"camera {camera}: one picture, byte for byte, in {longest} frames running"
    advice = "restart its driver; a simulated camera that stands still: frozen_frames 0"
    if most and longest >= most:
        yield Finding(FAIL, "frozen", f"{text} (dead from {most})", advice)
    elif longest > 2 and longest == len(samples):
        yield Finding(WARN, "frozen", f"{text}, all that came", advice)
    elif len(samples) > 1:
        yield Finding(PASS, "frozen", f"camera {camera}: pictures change ({longest} equal at most)")
