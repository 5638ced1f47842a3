"""A robot as a process of its own: cameras, joint states and an instruction, at steady rates.

It reports on standard output, twice a second and a line of JSON each, how many messages of each
topic it sent, so that a publisher that the machine starves is told apart from a slow node.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from benchmarks.overhead.figures import CAMERA_HZ, JOINT_HZ

REPORT = 0.5
"""Seconds between two reports."""

IMAGES = 8
"""Different images that each camera shows in turn."""

DRIFT = 0.1
"""Hz by which cameras are faster and slower than their rate, in turn. A real camera has a clock of
its own; exact rates would keep for a whole run how images and ticks happened to fall together.
So images come at every moment between two ticks within 10 s."""

TASK = "touch the red cube"
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class RobotSettings:
    """What to publish.

    Attributes:
        cameras: topics of sensor_msgs/Image.
        joint_states, instruction: topics.
        joints: names.
        width, height: of the images, pixels.
    """

    cameras: tuple[str, ...]
    joint_states: str
    instruction: str
    joints: tuple[str, ...]
    width: int
    height: int

    def to_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RobotSettings:
        """See `to_json`."""
        values = json.loads(text)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass
class Stream:
    """One topic: how to send its next message, seconds from one to the next, when one is due."""

    topic: str
    send: Callable[[], None]
    period: float
    due: float
    sent: int = 0


def noise(width: int, height: int, seed: int) -> Iterator[Image]:
    """Noise, endlessly: the same few messages in turn, made beforehand."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(IMAGES):
        image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        image.data = array("B", rng.bytes(3 * width * height))
        made.append(image)
    return cycle(made)


def streams(node: Node, settings: RobotSettings) -> list[Stream]:
    """Publishers of everything, the instruction already published."""

    def send_image(publisher: rclpy.publisher.Publisher, images: Iterator[Image]) -> None:
        image = next(images)
        image.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(image)

    def send_joints(publisher: rclpy.publisher.Publisher) -> None:
        message = JointState(name=list(settings.joints))
        swing = 0.1 * math.sin(time.monotonic())
        message.position = [swing] * len(settings.joints)
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)

    begin = time.monotonic()
    result = []
    for k, topic in enumerate(settings.cameras):
        send = partial(
            send_image,
            node.create_publisher(Image, topic, _NEWEST),
            noise(settings.width, settings.height, seed=k),
        )
        # Cameras are not synchronised.
        begun = begin + k / len(settings.cameras) / CAMERA_HZ
        rate = CAMERA_HZ + (-DRIFT if k % 2 else DRIFT)
        result.append(Stream(topic, send, 1 / rate, begun))
    publisher = node.create_publisher(JointState, settings.joint_states, 10)
    result.append(
        Stream(settings.joint_states, partial(send_joints, publisher), 1 / JOINT_HZ, begin)
    )
    node.create_publisher(String, settings.instruction, _LATCHED).publish(String(data=TASK))
    return result


def publish(every: list[Stream], parent: int) -> None:
    """Publish what is due, until ROS is shut down or the process `parent` has gone.

    A message that is late by more than its period is left out: that is what the counts show.
    """
    reported = -math.inf
    while rclpy.ok() and os.getppid() == parent:
        now = time.monotonic()
        if now - reported >= REPORT:
            reported = now
            print(json.dumps({"at": now, "sent": {s.topic: s.sent for s in every}}), flush=True)
        stream = min(every, key=lambda s: s.due)
        if now < stream.due:
            time.sleep(stream.due - now)
            continue
        stream.send()
        stream.sent += 1
        stream.due += stream.period * max(1, int((now - stream.due) / stream.period))


def main() -> None:
    """Publish; the first argument is `RobotSettings.to_json`."""
    parent = os.getppid()
    rclpy.init()
    node = rclpy.create_node("robot", enable_rosout=False, start_parameter_services=False)
    try:
        with suppress(KeyboardInterrupt, ExternalShutdownException):
            publish(streams(node, RobotSettings.from_json(sys.argv[1])), parent)
    except RuntimeError:  # rclpy's RCLError
        if rclpy.ok():  # otherwise a signal came while a message was in flight
            raise
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
