"""What the doctor keeps of a robot's messages, live or from a bag: a few numbers of each.

Messages are used by their attributes alone and dropped; times are nanoseconds.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from pi0_ros.doctor.reaction import Reference, Sent
from pi0_ros.node.images import ImageError, decompress, to_rgb
from pi0_ros.node.interface import Interface
from pi0_ros.node.observation import stamp_of

DECODE_EVERY = 10
"""Of compressed images one in so many is decoded: decoding all would lose live ones."""


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscriber on a live graph; durability in lower case."""

    node: str
    type: str
    durability: str


@dataclass(frozen=True)
class Sample:
    """When a message came (`arrival`), the node's clock then (None: no /clock), and its stamp."""

    arrival: int
    now: int | None
    stamp: int


@dataclass(frozen=True)
class ImageSample(Sample):
    """An image.

    Attributes:
        digest: of its bytes; equal images have equal ones.
        spread: largest less smallest value on a coarse grid, 0 to 255; None where not decoded.
        problem: why it cannot be read; "" where it can.
        grey: red, green and blue are equal on that grid; None where not decoded.
    """

    encoding: str
    size: tuple[int, int] | None
    digest: int
    spread: int | None
    problem: str
    grey: bool | None = None


@dataclass(frozen=True)
class JointSample(Sample):
    """A joint state and its absolute topic; the other fields are spelled as the message's."""

    topic: str
    name: tuple[str, ...]
    position: tuple[float, ...]
    velocity: tuple[float, ...] = ()


@dataclass(frozen=True)
class Controller:
    """A node that subscribes to an output of the node, and what it says of itself.

    Attributes:
        node: its full name.
        parameters: name -> value; None: it did not answer in time.
        round_trips: seconds from requests to their answers.
    """

    node: str
    parameters: Mapping[str, Any] | None
    round_trips: tuple[float, ...] = ()


@dataclass
class Collected:
    """Everything that came.

    Attributes:
        live: from a running graph; else from a bag.
        start, end: arrival times of the first and the last moment of listening.
        types: topic -> message types, of those that anybody publishes or that hold messages.
        publishers, subscribers: topic -> endpoints; empty for a bag.
        clock: (arrival, value) of /clock.
        instructions, stops: (arrival, value).
        beats: arrivals of the deadman's heartbeat.
        malformed: topic -> sentences about messages that cannot be read.
        controllers: node -> what it told; the subscribers of outputs, and the controller manager.
        states: controller -> its state ("active"), as the controller manager diagnoses it.
        sent: topic of an output -> trajectories, by arrival in the node's time.
        references: controller's node -> what it commanded, by time.
        diagnostics: status -> key -> value, of the running node's newest report.
    """

    live: bool
    start: int = 0
    end: int = 0
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)
    publishers: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    subscribers: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    clock: list[tuple[int, int]] = field(default_factory=list)
    images: dict[str, list[ImageSample]] = field(default_factory=dict)
    joints: list[JointSample] = field(default_factory=list)
    instructions: list[tuple[int, str]] = field(default_factory=list)
    stops: list[tuple[int, bool]] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)
    malformed: dict[str, Counter[str]] = field(default_factory=dict)
    controllers: dict[str, Controller] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    references: dict[str, list[Reference]] = field(default_factory=dict)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


Put = Callable[[Any, int, "int | None"], None]
"""Takes a message, its arrival and the node's clock at that time."""


class Collector:
    """Turns messages into samples; `puts` maps each topic to the function for its messages."""

    def __init__(self, interface: Interface, live: bool) -> None:
        collected = self.collected = Collected(live)
        parameters = interface.parameters
        self._compressed = parameters.image_transport == "compressed"
        puts: dict[str, Put] = {
            **{
                topic: partial(self._put_joints, interface.absolute(topic))
                for topic in parameters.joint_states_topics
            },
            "instruction": lambda m, at, now: collected.instructions.append((at, m.data)),
            parameters.emergency_stop_topic: lambda m, at, now: collected.stops.append(
                (at, bool(m.data))
            ),
        }
        for camera in parameters.cameras:
            samples = collected.images[camera.name] = []
            puts[camera.topic] = partial(self._put_image, samples)
        if parameters.deadman_timeout:
            puts[parameters.deadman_topic] = lambda m, at, now: collected.beats.append(at)
        self.puts = {interface.absolute(topic): put for topic, put in puts.items()}

    def malformed(self, topic: str, sentence: str) -> None:
        self.collected.malformed.setdefault(topic, Counter())[sentence] += 1

    def _put_image(
        self, samples: list[ImageSample], message: Any, arrival: int, now: int | None
    ) -> None:
        encoding = message.format if self._compressed else message.encoding
        size = None if self._compressed else (message.width, message.height)
        spread, grey, problem = None, None, ""
        due = len(samples) % DECODE_EVERY == 0 or samples[-1].problem
        if due or not self._compressed or samples[-1].encoding != encoding:
            try:
                image = decompress(message) if self._compressed else to_rgb(message)
                size = (image.shape[1], image.shape[0])
                if due:
                    coarse = image[::16, ::16]
                    spread = int(np.ptp(coarse))
                    grey = bool((coarse == coarse[..., :1]).all())
            except ImageError as error:
                problem = str(error)
        digest = zlib.crc32(memoryview(message.data))
        stamp = stamp_of(message)
        sample = ImageSample(arrival, now, stamp, encoding, size, digest, spread, problem, grey)
        samples.append(sample)

    def _put_joints(self, topic: str, message: Any, arrival: int, now: int | None) -> None:
        names, positions = tuple(message.name), tuple(float(v) for v in message.position)
        stamp = stamp_of(message)
        self.collected.joints.append(JointSample(arrival, now, stamp, topic, names, positions))
