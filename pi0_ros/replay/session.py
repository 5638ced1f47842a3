"""The part of a replay that needs ROS: a player beside the node, and what comes of it."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.bag import Message
from pi0_ros.bags.chunks import ChunkRecord, chunk_record
from pi0_ros.msg import ActionChunk
from pi0_ros.node.interface import Interface, Topic, node_topics
from pi0_ros.replay.case import Case
from pi0_ros.replay.player import Playback, ReadAhead, play
from pi0_ros.ros.diagnostics import Counters, read_counters
from pi0_ros.ros.process import NodeError, NodeProcess
from pi0_ros.ros.recorder import Recorded, Recorder
from pi0_ros.ros.services import Refused, StateChange
from pi0_ros.ros.spinning import wait_until

KINDS = {
    Recorded(kind).type: kind
    for kind in (JointTrajectory, Float64MultiArray, ActionChunk, DiagnosticArray)
}
"""What is recorded of the node: message type -> class."""

# DDS matches a node's subscriptions within milliseconds of each other; what has not matched this
# many seconds after the first one never will.
MATCH_LIMIT = 10.0
# The node publishes its counters every second; after this many seconds without it hangs.
SILENCE_LIMIT = 10.0
# An inference that still runs at the end of the recording gets this long,
DRAIN_LIMIT = 120.0
# and a chunk that is published this long to arrive.
ARRIVAL_LIMIT = 2.0


def output_types(interface: Interface) -> dict[str, str]:
    """Topic -> message type of what is recorded."""
    topics = node_topics(interface.parameters)
    return {interface.absolute(topic.name): topic.type for topic in topics if topic.sent}


class Output:
    """What the node published.

    Attributes:
        recorder: polled by the session.
        chunks: every ~/action_chunk that the node did not reject, in order.
        received: topic of an output -> messages.
        counters: the node's counters in every /diagnostics message, in order.
    """

    def __init__(self, node: Node, interface: Interface, now: Callable[[], int]) -> None:
        """Subscribes; `now`: the recording's time in ns."""
        self.chunks: list[ChunkRecord] = []
        self.received: Counter[str] = Counter()
        self.counters: list[Counters] = []
        self._name = interface.name
        self._types = output_types(interface)
        listeners = {ActionChunk: self._on_chunk, DiagnosticArray: self._on_diagnostics}
        topics = {}
        for topic, kind in self._types.items():
            count = partial(self._on_command, topic)
            topics[topic] = Recorded(KINDS[kind], listeners.get(KINDS[kind], count))
        self.recorder = Recorder(node, topics, now)

    @property
    def trajectories(self) -> int:
        """Trajectories that came whole: on each of the topics that carry them."""
        topics = [topic for topic, kind in self._types.items() if KINDS[kind] is JointTrajectory]
        if topics:
            return min(self.received[topic] for topic in topics)
        return self.counters[-1].trajectories if self.counters else 0

    def _on_command(self, topic: str, _: object) -> None:
        self.received[topic] += 1

    def _on_chunk(self, message: ActionChunk) -> None:
        record = chunk_record(message)
        if not record.rejected:
            self.chunks.append(record)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        counters = read_counters(message, self._name)
        if counters is not None:
            self.counters.append(counters)


class Session:
    """Plays one recording to one running node and records its answers.

    Attributes:
        output: what came from the node.
    """

    def __init__(
        self,
        node: Node,
        case: Case,
        process: NodeProcess,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Creates publishers and subscriptions of the player's node, which another thread spins;
        `process` has the node under replay.
        """
        self._case, self._process, self._interrupted = case, process, interrupted
        self._name = case.interface.name
        self._node = node
        self._sim_time = case.bag.start
        self._publishers = {
            topic: _create_publisher(node, need) for topic, need in case.topics.items()
        }
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self.output = Output(node, case.interface, lambda: self._sim_time)

    def poll(self) -> None:
        """Records what has come from the node; raises NodeEnded or KeyboardInterrupt."""
        if self._interrupted():
            raise KeyboardInterrupt
        self.output.recorder.poll()
        self._process.check()

    def wait_until_ready(self, limit: float, on_poll: Callable[[], None] = lambda: None) -> None:
        """Returns once every topic is matched and the node has published its counters.

        Args:
            limit: seconds for the node to load its checkpoint and answer.

        Raises:
            NodeError: the limit passed, or others publish on these topics too.
        """

        def meanwhile() -> None:
            self.poll()
            on_poll()

        started = time.monotonic()
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            self._change_state(transition, limit, meanwhile)

        def first_match() -> bool:
            # It takes /clock at once, but the recorded topics only when its policy is loaded.
            return any(p.get_subscription_count() for p in self._publishers.values())

        left = limit - (time.monotonic() - started)
        if wait_until(first_match, left, meanwhile):
            wait_until(self._is_ready, MATCH_LIMIT, meanwhile)
        if not self._is_ready():
            self._fail_to_match(time.monotonic() - started)
        self._check_alone()

    def _is_ready(self) -> bool:
        return not self._unmatched() and bool(self.output.counters)

    def _unmatched(self) -> list[str]:
        publishers: list[Publisher] = [*self._publishers.values(), self._clock]
        return [p.topic_name for p in publishers if not p.get_subscription_count()]

    def _change_state(self, transition: int, limit: float, meanwhile: Callable[[], None]) -> None:
        """Asks the node to configure or activate; waits for its answer."""
        configures = transition == Transition.TRANSITION_CONFIGURE
        failed = f"the node {self._name} did not {'configure' if configures else 'activate'}"
        try:
            with closing(StateChange(self._node, self._name, transition)) as change:
                done = wait_until(change.poll, limit, meanwhile)
        except Refused as error:
            raise NodeError(f"{failed}. {self._last_output()}") from error
        if not done:
            raise NodeError(f"{failed} within {limit:.0f} s. {self._last_output()}")

    def _fail_to_match(self, elapsed: float) -> None:
        missing = [
            f"it does not subscribe to {topic} with the right type" for topic in self._unmatched()
        ]
        if not self.output.counters:
            missing.append("it publishes no counters on /diagnostics")
        raise NodeError(
            f"the node {self._name} is not ready after {elapsed:.0f} s: {'; '.join(missing)}."
            f" {self._last_output()}"
        )

    def _last_output(self) -> str:
        return f"Its last output:\n{self._process.last_output()}"

    def _check_alone(self) -> None:
        ours = {"/clock", *output_types(self._case.interface)} - {"/diagnostics"}
        for topic in sorted(ours):
            if self._node.count_publishers(topic) > 1:
                raise NodeError(
                    f"another process publishes {topic} in this ROS domain and would be mixed up "
                    "with the replay: end it, or unset ROS_DOMAIN_ID, so that the replay takes a "
                    "free domain"
                )

    def play(self, rate: float, on_tick: Callable[[int], None]) -> Playback:
        """Plays the recording; `on_tick` gets its time in ns."""

        def tick(sim_time: int) -> None:
            self.poll()
            on_tick(sim_time)

        def publish(message: Message) -> None:
            self._publishers[message.topic].publish(message.data)

        types = self._case.types
        with ReadAhead(self._case.bag.messages(types)) as messages:
            return play(messages, types, publish, self._publish_clock, rate=rate, on_tick=tick)

    def drain(self) -> bool:
        """Waits for the inference that runs at the end of the recording; False if it did not end.

        The clock stands still meanwhile, so no tick follows. The counters that the node publishes
        at the recording's last time tell when every tick has come to its end.
        """
        counters = self.output.counters
        received, at = len(counters), time.monotonic()

        def done() -> bool:
            nonlocal received, at
            if len(counters) > received:
                received, at = len(counters), time.monotonic()
            if time.monotonic() - at > SILENCE_LIMIT:
                return True  # it hangs
            return self._has_ended()

        def meanwhile() -> None:
            # Again and again: the node's subscription to /clock is best effort.
            self._publish_clock(self._sim_time)
            self.poll()

        wait_until(done, DRAIN_LIMIT, meanwhile)
        if not self._has_ended():
            return False
        # The counters may overtake the last chunk, which is on another topic.
        wait_until(lambda: len(self.output.chunks) >= counters[-1].chunks, ARRIVAL_LIMIT, self.poll)
        return True

    def _has_ended(self) -> bool:
        last = self.output.counters[-1]
        return last.stamp >= self._sim_time and last.idle

    def _publish_clock(self, sim_time: int) -> None:
        self._sim_time = sim_time
        self._clock.publish(Clock(clock=Time(nanoseconds=sim_time).to_msg()))


def _create_publisher(node: Node, need: Topic) -> Publisher:
    """Reliable, which every subscription can take; a lone instruction also stays for late ones."""
    qos = QoSProfile(depth=10)
    if need.type == "std_msgs/msg/String":
        qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
    package, _, name = need.type.split("/")
    message_type = getattr(importlib.import_module(f"{package}.msg"), name)
    return node.create_publisher(message_type, need.name, qos)
