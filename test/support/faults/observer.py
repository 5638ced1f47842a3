"""A participant beside the node: receives all that it publishes, calls its services."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from pi0_ros.msg import ActionChunk
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.ros.services import Refused, ServiceCall, StateChange
from support.faults.arm import nanoseconds
from support.faults.judge import Judge
from support.spinning import spin
from support.waiting import wait_until


@dataclass(frozen=True)
class Status:
    """A received status of /diagnostics.

    Attributes:
        at: steady seconds at which it came.
        level: 0 is OK.
        text: the message, and then the values.
    """

    at: float
    name: str
    level: int
    message: str
    values: dict[str, str]

    @property
    def text(self) -> str:
        pairs = " ".join(f"{key}={value}" for key, value in self.values.items())
        return f"{self.message} {pairs}".lower()


class Observer:
    """A participant of its own, in a thread of its own.

    Attributes:
        chunks, trajectories: how many came so far.
        executed: chunks that led to a trajectory.
        chunk_stamp: nanoseconds of the newest chunk's observation.
        latencies: seconds from the observation to the chunk's arrival, the newest 2000.
        sim: whether the time is /clock's.
    """

    def __init__(self, domain: int, judge: Judge, name: str = "pi0") -> None:
        self.judge = judge
        self.chunks = self.executed = self.trajectories = 0
        self.chunk_stamp = 0
        self.latencies: deque[float] = deque(maxlen=2000)
        self.sim = False
        self._clock = 0
        self._jumped_at = -math.inf
        self._statuses: deque[Status] = deque(maxlen=5000)
        self.arm: list[float] = []
        self._name = name
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("observer", context=self._context)
        for topic, kind, callback, depth in (
            (f"{name}/joint_trajectory", JointTrajectory, self._on_trajectory, 1000),
            (f"{name}/action_chunk", ActionChunk, self._on_chunk, 1000),
            ("/diagnostics", DiagnosticArray, self._on_diagnostics, 1000),
            ("arm", JointState, self._on_arm, 1000),
            ("/clock", Clock, self._on_clock, 1),  # the newest: a backlog would be an old time
        ):
            self._node.create_subscription(kind, topic, callback, depth)
        self._emergency_stop = self._node.create_publisher(Bool, "emergency_stop", 10)
        self._buttons: list[Any] = []
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = spin(self._executor)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def now(self) -> int:
        """Nanoseconds of the clock that the robot stamps with."""
        return self._clock if self.sim else time.time_ns()

    def _on_clock(self, message: Clock) -> None:
        clock = nanoseconds(message.clock)
        if not 0 <= clock - self._clock <= 10**9:
            self._jumped_at = time.monotonic()
        self._clock = clock

    def _on_trajectory(self, message: JointTrajectory, info: Mapping[str, int]) -> None:
        received = self.now()
        if time.monotonic() - self._jumped_at < 1.0:  # it may have been made before the jump
            received = nanoseconds(message.header.stamp) or received
        self.judge.trajectory(message, received, info["source_timestamp"])
        self.trajectories += 1

    def _on_chunk(self, message: ActionChunk) -> None:
        if message.verdict == ActionChunk.REJECTED:
            return
        self.chunk_stamp = nanoseconds(message.header.stamp)
        self.latencies.append((self.now() - self.chunk_stamp) / 1e9)
        self.executed += message.verdict == ActionChunk.EXECUTED
        self.chunks += 1

    def _on_arm(self, message: JointState) -> None:
        self.arm = list(message.position)
        self.judge.arm(nanoseconds(message.header.stamp), message.position)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = status.level if isinstance(status.level, int) else status.level[0]
            values = {pair.key: pair.value for pair in status.values}
            received = Status(time.monotonic(), status.name, level, status.message, values)
            self._statuses.append(received)

    def statuses(self, about: str, since: float = 0.0) -> list[Status]:
        """Received statuses "<node>: <about>" since then, oldest first."""
        name = f"{self._name}: {about}"
        return [s for s in list(self._statuses) if s.name == name and s.at > since]

    def names(self) -> set[str]:
        """Of all received statuses."""
        return {status.name for status in list(self._statuses)}

    def emergency_stop(self, on: bool) -> None:
        self._emergency_stop.publish(Bool(data=on))

    def press_another(self, on: bool, best_effort: bool = False) -> None:
        """Say something on another publisher of the emergency stop."""
        qos = QoSProfile(depth=10)
        if best_effort:
            qos.reliability = ReliabilityPolicy.BEST_EFFORT
        button = self._node.create_publisher(Bool, "emergency_stop", qos)
        wait_until(button.get_subscription_count, "the node to hear the other button")
        for _ in range(5):  # the node may match a little later: best effort is lost then
            button.publish(Bool(data=on))
            time.sleep(0.05)
        self._buttons.append(button)

    def take_buttons_away(self) -> None:
        """Destroy the publishers of `press_another`."""
        while self._buttons:
            self._node.destroy_publisher(self._buttons.pop())

    def enable(self, on: bool = True) -> Any:
        return self.call(SetBool, f"{self._name}/enable", data=on)

    def reset(self) -> Any:
        return self.call(Trigger, f"{self._name}/reset")

    def ask(self, kind: Any, name: str, **fields: Any) -> None:
        """Call a service and wait for no answer."""
        client = self._node.create_client(kind, name)
        wait_until(client.service_is_ready, f"the service {name}")
        time.sleep(0.3)  # until the service has seen this client too: nobody would ask again
        client.call_async(kind.Request(**fields))

    def call(self, kind: Any, name: str, **fields: Any) -> Any:
        """The answer of a service.

        Raises:
            NotWithin: there is none.
        """
        client = self._node.create_client(kind, name)
        asking = ServiceCall(client, kind.Request(**fields))
        try:
            return wait_until(asking.poll, f"an answer of {name}")
        except Refused as error:
            return SimpleNamespace(success=False, message=str(error))
        finally:
            self._node.destroy_client(client)

    def change(self, name: str, transition: int) -> bool:
        """Whether a managed node took a transition.

        Raises:
            NotWithin: it did not answer.
        """
        changing = StateChange(self._node, name, transition)
        try:
            return wait_until(changing.poll, f"transition {transition} of {name}")
        except Refused:
            return False
        finally:
            changing.close()
