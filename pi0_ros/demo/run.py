"""The demo's run: three instructions, one after the other, and a recording of it all."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros import console
from pi0_ros.bags.writer import BagWriter
from pi0_ros.demo.record import Attempt, Record
from pi0_ros.msg import ActionChunk
from pi0_ros.node.arguments import NODE_NAME
from pi0_ros.ros.process import NodeError
from pi0_ros.sim.closed_loop import ANSWER_LIMIT, START_LIMIT, ClosedLoop, closed_loop

ATTEMPT = 12.0
"""Seconds of the robot's time that the arm has for an instruction."""

_CAMERA_HZ = 15.0  # two cores are enough for it all, without a GPU
_SLOWER = 3.0  # times that the robot's time may pass more slowly than it should
_PAUSE = 500_000_000  # nanoseconds of the robot's time between a touch and the next instruction
_REFRESH = 0.5  # seconds between two states of a progress bar

# Deep enough for a burst while the recorder waits for the GIL.
_ALL = QoSProfile(depth=1000)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_IMAGES = QoSProfile(depth=10)

TOPICS: dict[str, tuple[type, QoSProfile, Callable[[Record, Any], None] | None]] = {
    "/front/image_raw/compressed": (CompressedImage, _IMAGES, Record.on_image),
    "/wrist/image_raw/compressed": (CompressedImage, _IMAGES, None),
    "/joint_states": (JointState, _ALL, Record.on_joint_state),
    "/instruction": (String, _LATCHED, None),
    f"/{NODE_NAME}/action_chunk": (ActionChunk, _ALL, Record.on_chunk),
    f"/{NODE_NAME}/joint_trajectory": (JointTrajectory, _ALL, None),
    "/diagnostics": (DiagnosticArray, _ALL, Record.on_diagnostics),
    "/robot_description": (String, _LATCHED, None),
    "/sim/touched": (String, _ALL, None),
    "/sim/score": (String, _LATCHED, Record.on_score),
}
"""Topics of the recording: type, QoS, and what the record does with a message."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seed, variant: of the scene.
        checkpoint: directory of the policy.
        out: folder that exists; gets the recording `bag` and the logs.
        speed: simulated per real time; 1: real time.
        window: show the simulation.
    """

    seed: int
    variant: str
    checkpoint: Path
    out: Path
    speed: float = 1.0
    window: bool = False

    def sim_options(self) -> list[str]:
        """The options of pi0_sim."""
        options = ["--compressed", "--camera-hz", str(_CAMERA_HZ)]
        options += ["--seed", str(self.seed), "--variant", self.variant]
        options += ["--window"] * self.window
        return options + ["--clock", "--speed", str(self.speed)] * (self.speed != 1)

    def parameters(self) -> dict[str, object]:
        """The parameters of pi0_node."""
        return {
            "checkpoint": str(self.checkpoint.resolve()),
            "image_transport": "compressed",
            "use_sim_time": self.speed != 1,
        }


def run(plan: Plan, interrupted: Callable[[], bool] = lambda: False) -> Record:
    """Give the instructions of the scene one after the other; ends both processes.

    Args:
        interrupted: asked every few milliseconds; True ends it.

    Raises:
        NodeError: something did not come in time, or another node is in this ROS domain.
        NodeEnded: one of the processes ended; the message has its last output.
        ValueError: a message does not hold what it should.
        KeyboardInterrupt: `interrupted` returned True.
    """
    types = {topic: _type_name(kind) for topic, (kind, _, _) in TOPICS.items()}
    record = Record()
    with (
        BagWriter(plan.out / "bag", "mcap", types) as writer,
        closed_loop("pi0_demo", plan.sim_options(), plan.parameters(), plan.out) as loop,
    ):
        recorder = Recorder(loop.node, writer, record)

        def poll() -> None:
            if interrupted():
                raise KeyboardInterrupt
            recorder.poll()
            bar.update(0)

        loop.on_poll = poll
        with console.progress(
            desc="Starting", total=0, bar_format="{desc} {elapsed}", mininterval=_REFRESH
        ) as bar:
            _start(loop, record)
        layout = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}"
        with console.progress(
            desc="Instructions", total=3, bar_format=layout, mininterval=_REFRESH
        ) as bar:
            for instruction in list(record.score["instructions"]):
                bar.set_postfix_str(instruction)
                attempt = _attempt(loop, record, instruction, _SLOWER / plan.speed)
                bar.update(1)
                bar.write(str(attempt), file=sys.stderr)
            # The figures are those of /diagnostics, which comes once a second.
            received = len(record.counters)
            loop.wait(
                lambda: len(record.counters) > received, ANSWER_LIMIT, "/diagnostics of pi0_node"
            )
    return record


def _start(loop: ClosedLoop, record: Record) -> None:
    """Return once the arm would move."""
    loop.start()
    loop.wait(
        lambda: record.score and record.frames and record.counters,
        START_LIMIT,
        "the scene and the images of pi0_sim, and /diagnostics of pi0_node",
    )
    for topic in TOPICS:
        if topic != "/diagnostics" and loop.node.count_publishers(topic) > 1:
            raise NodeError(
                f"another process publishes {topic} in this ROS domain and would be mixed up with "
                "the demo: end it, or unset ROS_DOMAIN_ID, so that the demo takes a free domain"
            )
    loop.enable()


def _attempt(loop: ClosedLoop, record: Record, instruction: str, patience: float) -> Attempt:
    """Give an instruction and wait for what comes of it.

    Args:
        patience: seconds of real time for a second of the robot's.
    """
    if record.latched:
        loop.reset()
        loop.enable()
        record.resets += 1
    attempt = Attempt(instruction, record.now)
    record.attempts.append(attempt)
    loop.instruct(instruction)
    loop.wait(
        lambda: attempt.ended or record.now > attempt.begun + ATTEMPT * 1e9,
        ATTEMPT * patience,
        "joint states of pi0_sim",
    )
    attempt.ended = attempt.ended or record.now
    end = record.now + _PAUSE
    loop.wait(lambda: record.now > end, ANSWER_LIMIT, "joint states of pi0_sim")
    return attempt


class Recorder:
    """Subscribes to TOPICS. The executor's thread only queues what arrives; `poll` does the rest.

    Args:
        node: an executor spins it.
        writer: made for these topics.
        record: gets the messages, in order of their arrival.
    """

    def __init__(self, node: Node, writer: BagWriter, record: Record) -> None:
        self._writer, self._record = writer, record
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._to_write: list[tuple[str, bytes]] = []

        def arrival(topic: str) -> Callable[[bytes], None]:
            return lambda data: self._arrived.append((topic, data))

        for topic, (kind, qos, _) in TOPICS.items():
            node.create_subscription(kind, topic, arrival(topic), qos, raw=True)

    def poll(self) -> None:
        """Read and write what has arrived; a bag's times are the robot's, and never go back.

        Raises:
            ValueError: a message does not hold what it should.
        """
        while self._arrived:
            topic, data = self._arrived.popleft()
            kind, _, put = TOPICS[topic]
            if put is not None:
                put(self._record, deserialize_message(data, kind))
            self._to_write.append((topic, data))
            if self._record.now:  # what came before the first joint state has no time until then
                for entry in self._to_write:
                    self._writer.write(entry[0], self._record.now, entry[1])
                self._to_write.clear()


def _type_name(kind: type) -> str:
    """A message class as a bag names it: `sensor_msgs/msg/JointState`."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
