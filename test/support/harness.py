"""A small robot beside the node: messages without ROS, and a harness with ROS over loopback."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pi0_ros.motion.refusal import Measured
from pi0_ros.node.parameters import NodeParameters, read_parameters
from pi0_ros.node.progress import Counts
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from support.spinning import spin
from support.waiting import PATIENCE, wait_until

JOINTS = ("pan", "lift", "gripper")
DT = 0.02
HORIZON = 50
AT_REST = dict(zip(JOINTS, (0.1, 0.2, 0.3), strict=True))
"""Radians."""


def given(**changes: Any) -> dict[str, Any]:
    """Parameters of a node with two cameras and three joints; `a__b` in a name stands for `a.b`."""
    base = {"checkpoint": "/fake", "joints": list(JOINTS), "instruction": "touch the red cube"}
    base["frozen_frames"] = 0  # the harness sends one image again and again
    return base | {name.replace("__", "."): value for name, value in changes.items()}


def configure(**changes: Any) -> NodeParameters:
    return read_parameters(given(**changes))


def wide_limits(folder: Path) -> str:
    """A file with limits that no test comes near."""
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: -9.0, max_position: 9.0,"
        " has_velocity_limits: true, max_velocity: 100.0,"
        " has_acceleration_limits: true, max_acceleration: 10000.0}"
        for joint in JOINTS
    ]
    path = folder / "limits.yaml"
    path.write_text("\n".join(["joint_limits:", *lines, ""]))
    return str(path)


def header(nanoseconds: int) -> SimpleNamespace:
    sec, nanosec = divmod(nanoseconds, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


@dataclass
class FakePolicy:
    """Holds the observed state and adds 0.01 * (step + 1) * (joint + 1)."""

    horizon: int = HORIZON
    device: str = "cpu"
    corrupt: Callable[[np.ndarray], np.ndarray] = lambda positions: positions
    seen: list[Observation] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    resets: int = 0

    def __post_init__(self) -> None:
        self.go_on.set()

    def reset(self) -> None:
        self.resets += 1

    def infer(self, observation: Observation, sequence: int | None = None) -> ActionChunk:
        self.seen.append(observation)
        self.started.set()
        assert self.go_on.wait(PATIENCE)
        steps = np.arange(1, self.horizon + 1)[:, None] * np.arange(1, len(JOINTS) + 1)
        positions = (observation.state + 0.01 * steps).astype(np.float32)
        return ActionChunk(
            positions=self.corrupt(positions),
            dt=DT,
            stamp=observation.stamp,
            sequence=len(self.seen) - 1 if sequence is None else sequence,
            seed=7,
            stage_times={"preprocess": 0.001, "model": 0.002},
        )


@dataclass
class GuidedPolicy(FakePolicy):
    """Notes what its chunks are to agree with (real-time chunking)."""

    rtc_max_delay: int = 9
    prefixes: list[ActionPrefix | None] = field(default_factory=list)

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        self.prefixes.append(prefix)
        return super().infer(observation)


class Harness:
    """The node in its own thread and participant, and a robot that owns the clock.

    Time is /clock, moved by `advance`: what is fresh and when the node ticks does not depend on
    the machine's load.
    """

    def __init__(
        self,
        domain: int,
        policy: FakePolicy,
        arrivals: list[tuple[str, int]],
        arguments: Sequence[str] = (),
        before: Callable[[Any], None] = lambda robot: None,
        activate: bool = True,
        check: Callable[..., list[str]] = lambda *_: [],
        deaf: Sequence[str] = (),
        **changes: Any,
    ) -> None:
        """The node is active and enabled, unless told otherwise.

        `before` is called with the robot's rclpy node before there is a pi0 node. Nobody subscribes
        to the outputs `deaf`.
        """
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from pi0_ros.msg import ActionChunk as ActionChunkMessage
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.lifecycle import TransitionCallbackReturn
        from rclpy.parameter import Parameter
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CompressedImage, Image, JointState
        from std_msgs.msg import Float64MultiArray, String
        from trajectory_msgs.msg import JointTrajectory

        from pi0_ros.node.node import Pi0Node
        from pi0_ros.node.parameter_table import FLOAT64_MULTI_ARRAY, JOINT_TRAJECTORY

        self.policy = policy
        self.now = 1_000_050_000_000  # between two ticks of a node at 10 Hz
        self._arrivals = arrivals
        self._contexts = [rclpy.Context(), rclpy.Context()]
        for context in self._contexts:
            rclpy.init(context=context, domain_id=domain)

        own = self._contexts[0]
        self.robot = rclpy.create_node("robot", context=self._contexts[1])
        before(self.robot)
        self._folder = tempfile.TemporaryDirectory()
        file = wide_limits(Path(self._folder.name))
        limits = {"joint_limits": file, "allow_wide_limits": True, "start_enabled": True}
        limits["tracking_tolerance"] = 7.0  # the robot stands, whatever it is told
        values = given(**{"use_sim_time": True, "action_dt": DT, **limits, **changes})
        self.node = Pi0Node(
            lambda parameters: policy,
            check,
            context=own,
            cli_args=list(arguments),
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        if activate:
            assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.commands: dict[str, list[Any]] = {}
        """Output -> messages."""
        self.chunks: list[ActionChunkMessage] = []
        self.diagnostics: list[DiagnosticArray] = []
        name = self.node.get_fully_qualified_name()
        heard_topics = {
            f"{name}/action_chunk": (ActionChunkMessage, self.chunks),
            "/diagnostics": (DiagnosticArray, self.diagnostics),
        }
        kinds = {JOINT_TRAJECTORY: JointTrajectory, FLOAT64_MULTI_ARRAY: Float64MultiArray}
        for output in self.node.parameters.effective_outputs:
            self.commands[output.name] = []
            if output.name not in deaf:
                topic = self.node.resolve_topic_name(output.topic)
                heard_topics[topic] = kinds[output.type], self.commands[output.name]
        self.trajectories: list[JointTrajectory] = next(iter(self.commands.values()))
        for topic, (kind, heard) in heard_topics.items():
            self.robot.create_subscription(kind, topic, heard.append, 100)
        image = Image if changes.get("image_transport", "raw") == "raw" else CompressedImage
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        resolve_name = self.node.resolve_topic_name
        self.cameras = {
            camera.name: self.robot.create_publisher(image, resolve_name(camera.topic), best_effort)
            for camera in self.node.parameters.cameras
        }
        self.joints = self.robot.create_publisher(JointState, resolve_name("joint_states"), 10)
        self.instruction = self.robot.create_publisher(String, resolve_name("instruction"), 10)
        self._clock = self.robot.create_publisher(Clock, "/clock", 10)

        self._executors = [SingleThreadedExecutor(context=context) for context in self._contexts]
        self._executors[0].add_node(self.node)
        self._executors[1].add_node(self.robot)
        self._threads = [spin(e) for e in self._executors]
        outputs = [p for p in self.node.publishers if p.topic_name in heard_topics]
        inputs = [*self.cameras.values(), self.joints, self.instruction, self._clock]
        if not activate:
            return
        wait_until(
            lambda: all(p.get_subscription_count() for p in [*inputs, *outputs]), "discovery"
        )
        self._greet()
        # The first /clock is a jump from 0 and makes the node tick once.
        self._set_clock()
        self.wait(lambda: self.node.counts.refused.total() == 1, "the first tick")
        vars(self.node.counts).update(vars(Counts()))

    def rest(self) -> None:
        """Let the executor know that the arm rests where `send_all` says that it is.

        These joint states are newer than any that the test sends, so they are the ones that count.
        """
        executor, positions = self.node.loop.executor, np.array(list(AT_REST.values()))
        begin = self.now + 10**15

        def see() -> None:
            for stamp in range(begin, begin + 300_000_000, 50_000_000):
                executor.tick(Measured(positions, np.zeros_like(positions), stamp), stamp)

        done = self._executors[0].create_task(see)
        self.wait(done.done, "joint states of an arm at rest")
        done.result()

    def close(self) -> None:
        import rclpy

        self.policy.go_on.set()
        assert self.node.stop(PATIENCE)
        for executor, thread in zip(self._executors, self._threads, strict=True):
            executor.shutdown()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if self.node.loop is not None:
            self.node.loop.deactivate()
        self.node.destroy_node()
        self.robot.destroy_node()
        del self.node, self.robot  # a participant lives as long as a node does
        for context in self._contexts:
            rclpy.shutdown(context=context)
        self._folder.cleanup()

    def _set_clock(self) -> None:
        from rosgraph_msgs.msg import Clock

        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(self.now, 10**9)

        def arrived() -> bool:
            self._clock.publish(message)
            time.sleep(0.01)
            return self.node.get_clock().now().nanoseconds == self.now

        wait_until(arrived, "the node's clock")

    def advance(self, seconds: float) -> None:
        """Move /clock; the node ticks each time it passes a tenth of a second."""
        self.now += round(seconds * 1e9)
        self._set_clock()

    def settle(self) -> None:
        """Let the node's executor go round, so that what is due has been done."""
        for _ in range(3):
            done = self._executors[0].create_task(lambda: None)
            self.wait(done.done, "a round of the node's executor")

    def tick(self, seconds: float = 0.1) -> None:
        """Move /clock by a period and wait for the tick."""
        ticks = self.node.counts.ticks
        self.advance(seconds)
        self.wait(lambda: self.node.counts.ticks > ticks, "a tick")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, lambda: f"{what}; counts {self.node.counts}")

    def image(self, pixels: np.ndarray, encoding: str = "rgb8") -> Any:
        from sensor_msgs.msg import Image

        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).tobytes()
        return Image(
            height=height, width=width, encoding=encoding, step=len(data) // height, data=data
        )

    def state(self, **positions: float) -> Any:
        from sensor_msgs.msg import JointState

        return JointState(name=list(positions), position=list(positions.values()))

    def _greet(self) -> None:
        """Publish on every input until it comes through: the readers match after the writers."""
        greetings = {p: p.msg_type() for p in self.cameras.values()}
        greetings[self.joints] = self.state(pan=0.0)
        for publisher, message in greetings.items():
            message.header.stamp.nanosec = 1
            arrival = (self._stream(publisher), 1)
            before = self._arrivals.count(arrival)

            def heard(
                publisher: Any = publisher,
                message: Any = message,
                arrival: tuple[str, int] = arrival,
                before: int = before,
            ) -> bool:
                publisher.publish(message)
                time.sleep(0.01)
                return self._arrivals.count(arrival) > before

            wait_until(heard, f"a first message on {publisher.topic_name}")
        self.node.loop.buffer.clear()
        self.rest()

    def _stream(self, publisher: Any) -> str:
        names = {publisher: name for name, publisher in self.cameras.items()}
        return names.get(publisher, "joints")

    def send(self, publisher: Any, message: Any, age: float = 0.0) -> None:
        """Publish with a stamp `age` seconds old and wait until the node has it."""
        stamp = self.now - round(age * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        arrival = (self._stream(publisher), stamp)
        before = self._arrivals.count(arrival)
        publisher.publish(message)
        wait_until(lambda: self._arrivals.count(arrival) > before, f"{arrival} at the node")

    def send_all(self, skip: str = "", age: float = 0.0) -> None:
        """An image of every camera and a joint state, but for `skip`."""
        for name, publisher in self.cameras.items():
            if name != skip:
                self.send(publisher, self.image(np.full((4, 6, 3), 100, np.uint8)), age)
        if skip != "joints":
            self.send(self.joints, self.state(**AT_REST), age)

    def chunk(self) -> Any:
        """Send everything, tick, and wait for the trajectory and the chunk; returns the former."""
        before, chunks = len(self.trajectories), len(self.chunks)
        self.send_all()
        self.tick()
        self.wait(lambda: len(self.trajectories) > before, "a trajectory")
        self.wait(lambda: len(self.chunks) > chunks, "the chunk that led to it")
        return self.trajectories[-1]

    def summary(self) -> str:
        """The sentence of the last diagnostics."""
        return self.status("observations").message if self.diagnostics else ""

    def status(self, subcomponent: str) -> Any:
        """One status of the last diagnostics."""
        (found,) = (s for s in self.diagnostics[-1].status if s.name.endswith(f": {subcomponent}"))
        return found

    def refused(self) -> dict[str, int]:
        return dict(self.node.counts.refused)
