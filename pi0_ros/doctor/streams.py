"""Judging the streams: rates, ages, skew, and how many ticks would find an observation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding, fail, ok, warn
from pi0_ros.doctor.samples import Collected, ImageSample, JointSample, Sample
from pi0_ros.node.interface import Interface, node_topics
from pi0_ros.node.observation import JOINT_STATES
from pi0_ros.node.stream_health import FUTURE_TOLERANCE

IMAGE = "sensor_msgs/msg/Image"

DEFAULT_SEGMENT = 500_000
"""Bytes of shared memory that Fast DDS takes without a profile, about."""

ENOUGH_TICKS = 0.95
"""Share of the node's ticks that find a usable observation on a healthy robot."""

_SLOW = 0.9
"""Share of rate_hz below which a stream is too slow."""


@dataclass(frozen=True)
class Stream:
    """A camera, or joints that come together: label, topic, and what is allowed (seconds)."""

    label: str
    topic: str
    type: str
    samples: Sequence[Sample]
    max_age: float
    latency: float = 0.0
    joints: tuple[str, ...] = ()

    def ages(self) -> np.ndarray:
        """[n] seconds between the moment shown and the node's clock, where that is known."""
        known = [(s.now, s.stamp) for s in self.samples if s.now is not None and s.stamp]
        return np.array([(now - stamp) / 1e9 + self.latency for now, stamp in known])


def streams_of(interface: Interface, collected: Collected) -> list[Stream]:
    """The cameras, then the joint states by the joints of the node that they name."""
    p = interface.parameters
    types = {interface.absolute(topic.name): topic.type for topic in node_topics(p)}
    streams = []
    for c in p.cameras:
        topic, samples = interface.absolute(c.topic), collected.images[c.name]
        label = f"camera {c.name}"
        streams.append(Stream(label, topic, types[topic], samples, c.max_age, c.latency))
    groups: dict[tuple[str, tuple[str, ...]], list[JointSample]] = {
        (interface.absolute(topic), ()): [] for topic in p.joint_states_topics
    }
    for sample in collected.joints:
        named = tuple(name for name in p.joint_names if name in sample.name)
        if named and sample.position:
            groups.setdefault((sample.topic, named), []).append(sample)
    heard = {topic for topic, named in groups if named}
    for (topic, named), samples in groups.items():
        if named or topic not in heard:
            some = "" if len(named) in (0, len(p.joint_names)) else f" of {', '.join(named)}"
            label, age = f"{JOINT_STATES}{some}", p.joint_states_max_age
            streams.append(Stream(label, topic, types[topic], samples, age, joints=named))
    return streams


def judge_streams(interface: Interface, collected: Collected) -> list[Finding]:
    streams = streams_of(interface, collected)
    return [
        *(finding for stream in streams for finding in _rate(interface, collected, stream)),
        *(finding for stream in streams for finding in _ages(stream)),
        *_skew(interface, collected),
        *_ticks(interface, collected, streams),
    ]


def _rate(interface: Interface, collected: Collected, stream: Stream) -> Iterator[Finding]:
    arrivals = np.array([sample.arrival for sample in stream.samples], np.int64)
    if not len(arrivals):
        # A topic that is missing, of another type, or about other joints has a line of its own.
        strangers = any(sample.topic == stream.topic for sample in collected.joints)
        if stream.type in collected.types.get(stream.topic, ()) and not strangers:
            text = f"{stream.label} ({stream.topic}): no message in {collected.seconds:.1f} s"
            advice = "is its driver running?"
            if collected.publishers.get(stream.topic) and stream.type == IMAGE:
                advice = f"is its driver running? If it is: {_profile(stream, collected)}"
            yield fail("rate", text, advice)
        return
    if len(arrivals) == 1:
        text = f"{stream.label}: a single message in {collected.seconds:.1f} s"
        yield fail("rate", text, "the node needs a steady stream")
        return
    gaps = np.diff(arrivals) / 1e9
    rate, longest = 1 / max(np.mean(gaps), 1e-9), float(np.max(gaps))
    text = f"{stream.label}: {rate:.1f} Hz, longest gap {longest:.3f} s"
    silence = (collected.end - arrivals[-1]) / 1e9
    wanted = interface.parameters.rate_hz
    if silence > max(stream.max_age, 0.5):
        level = FAIL if collected.live else WARN
        yield Finding(level, "rate", f"{text}; nothing in the last {silence:.1f} s", "it stopped")
    elif rate < _SLOW * wanted:
        advice = "raise its rate, or lower rate_hz"
        if collected.live and _is_lost(stream):
            advice = f"{_profile(stream, collected)}; or raise its rate, or lower rate_hz"
        yield warn("rate", f"{text}; the node ticks at {wanted:g} Hz", advice)
    elif longest > stream.max_age:
        text = f"{text}, allowed age {stream.max_age:g} s"
        yield warn("rate", text, "ticks in such a gap are refused as stale")
    else:
        yield ok("rate", text)


def _is_lost(stream: Stream) -> bool:
    """Whether raw images are larger than what Fast DDS passes on by default."""
    sizes = [s.size for s in stream.samples if isinstance(s, ImageSample) and s.size]
    middleware = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    large = any(3 * width * height > DEFAULT_SEGMENT for width, height in sizes)
    return large and stream.type == IMAGE and middleware.startswith("rmw_fastrtps")


def _profile(stream: Stream, collected: Collected) -> str:
    """Which process needs config/fastdds.xml: the one that publishes."""
    nodes = " and ".join(sorted(e.node for e in collected.publishers.get(stream.topic, ())))
    return (
        f"raw images above 0.5 MB do not fit Fast DDS's shared memory and are lost: start"
        f" {nodes or 'the publisher'} with FASTRTPS_DEFAULT_PROFILES_FILE (on Kilted and later"
        " FASTDDS_DEFAULT_PROFILES_FILE) set to this package's config/fastdds.xml"
    )


def _ages(stream: Stream) -> Iterator[Finding]:
    if not stream.samples:
        return
    stamps = np.array([sample.stamp for sample in stream.samples], np.int64)
    unstamped = int(np.sum(stamps == 0))
    if unstamped:
        text = f"{stream.label}: {unstamped} of {len(stamps)} headers have no stamp (0)"
        yield fail("age", text, "the driver must stamp its messages")
        return
    if len(stamps) > 2 and np.all(stamps == stamps[0]):
        text = f"{stream.label}: every stamp is {stamps[0] / 1e9:.3f} s"
        yield fail("age", text, "the driver must stamp each message anew")
        return
    if back := int(np.sum(np.diff(stamps) < 0)):
        text = f"{stream.label}: stamps go back {back} times"
        yield warn("age", text, "two publishers, or a bag that loops?")
    ages = stream.ages()
    if not len(ages):
        return
    middle, late = (float(value) for value in np.percentile(ages, (50, 95)))
    text = f"{stream.label}: {_seconds(middle)} old on arrival, p95 {_seconds(late)}"
    allowed = f"allowed are {stream.max_age:g} s"
    if middle < -FUTURE_TOLERANCE / 1e9:
        text = f"{stream.label}: stamped {_seconds(-middle)} in the future"
        advice = "synchronise the machines' clocks (chrony), or use_sim_time is wrong"
        yield fail("age", text, advice)
    elif middle > stream.max_age:
        advice = "the stamps are of another clock" if middle > 60 else "raise max_age, or find out"
        yield fail("age", f"{text}; {allowed}", advice)
    elif late > stream.max_age:
        yield warn("age", f"{text}; {allowed}", "some observations will be refused")
    else:
        yield ok("age", text)


def _seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if abs(value) < 1 else f"{value:.1f} s"


def _skew(interface: Interface, collected: Collected) -> Iterator[Finding]:
    """Each image of the first camera against the nearest one of the others."""
    first, *others = interface.parameters.cameras
    allowed = interface.parameters.max_skew
    own = _moments(collected.images[first.name], first.latency)
    for camera in others:
        other = _moments(collected.images[camera.name], camera.latency)
        if len(own) < 2 or len(other) < 2:
            continue
        at = np.clip(np.searchsorted(other, own), 1, len(other) - 1)
        nearest = np.minimum(np.abs(own - other[at - 1]), np.abs(own - other[at])) / 1e9
        middle, worst = float(np.median(nearest)), float(np.max(nearest))
        text = (
            f"cameras {first.name} and {camera.name}: {_seconds(middle)} apart, at most"
            f" {_seconds(worst)} (allowed {allowed:g} s)"
        )
        level = FAIL if middle > allowed else WARN if worst > allowed else PASS
        advice = "" if level == PASS else "synchronise them, or set camera.*.latency or max_skew"
        yield Finding(level, "skew", text, advice)


def _moments(samples: Sequence[ImageSample], latency: float) -> np.ndarray:
    """[n] sorted nanoseconds at which the images were taken."""
    return np.sort(np.array([s.stamp - round(latency * 1e9) for s in samples if s.stamp], float))


def _ticks(
    interface: Interface, collected: Collected, streams: Sequence[Stream]
) -> Iterator[Finding]:
    """How many of the node's ticks would find a complete, fresh, matching observation."""
    # A part of the joints that another message has too is not waited for.
    whole = [set(stream.joints) for stream in streams]
    streams = [s for s in streams if not s.joints or not any(set(s.joints) < w for w in whole)]
    if set(interface.parameters.joint_names) - {name for s in streams for name in s.joints}:
        return
    if any(len(stream.samples) < 2 for stream in streams):
        return
    arrivals = [np.array([s.arrival for s in stream.samples], np.int64) for stream in streams]
    begin = max(int(times[0]) for times in arrivals)
    rate = interface.parameters.rate_hz
    ticks = np.arange(begin, collected.end, round(1e9 / rate))
    if not len(ticks):
        return
    reasons: Counter[str] = Counter(
        _refusal(interface, streams, arrivals, int(tick)) for tick in ticks
    )
    good = reasons.pop("", 0)
    text = f"{good} of {len(ticks)} ticks at {rate:g} Hz find a complete, fresh observation"
    if reasons:
        text += "; refused: " + ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(4))
    share = good / len(ticks)
    level = PASS if share >= ENOUGH_TICKS else WARN if share >= 0.5 else FAIL
    yield Finding(level, "ticks", text, "" if level == PASS else "see the lines about that stream")


def _refusal(
    interface: Interface, streams: Sequence[Stream], arrivals: Sequence[np.ndarray], tick: int
) -> str:
    """Why a tick finds no observation; "" where it does. The wording is the node's."""
    moments = []
    for stream, times in zip(streams, arrivals, strict=True):
        sample = stream.samples[int(np.searchsorted(times, tick, side="right")) - 1]
        if sample.now is None or not sample.stamp:
            return f"{stream.label} without a time"
        at = sample.stamp - round(stream.latency * 1e9)
        age = sample.now - at + tick - sample.arrival
        if age > stream.max_age * 1e9 or age < -FUTURE_TOLERANCE:
            return f"{stream.label} stale"
        moments.append(at)
    # Joint states are interpolated to the images: only older ones than those are apart.
    oldest, newest = min(moments), max(moments[: len(interface.parameters.cameras)])
    return "skewed" if newest - oldest > interface.parameters.max_skew * 1e9 else ""
