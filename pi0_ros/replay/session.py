"""One replay over DDS: the node in its process, the player and the recorder in this one."""

import importlib
import time
from collections.abc import Callable, Mapping

from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

from pi0_ros.bags.bag import (
    STAMPED_TYPES,
    Bag,
    Message,
    ReadAhead,
    header_stamp,
    read_messages,
)
from pi0_ros.node.interface import Interface, Topic
from pi0_ros.replay.player import Playback, play
from pi0_ros.replay.recorder import Recorder
from pi0_ros.ros.process import NodeError, NodeProcess
from pi0_ros.ros.services import Refused, StateChange

CLOCK_TOPIC = "/clock"
POLL = 0.05
# DDS matches a node's subscriptions within milliseconds of each other; what has not matched this
# many seconds after the first one never will.
MATCH_LIMIT = 10.0
# The node publishes its counters every second; after this many seconds without it hangs.
SILENCE_LIMIT = 10.0
# An inference that still runs at the end of the recording gets this long,
DRAIN_LIMIT = 120.0
# and a chunk that is published this long to arrive.
ARRIVAL_LIMIT = 2.0


OUTPUTS = {
    "joint_trajectory": ("~/joint_trajectory", "trajectory_msgs/msg/JointTrajectory"),
    "action_chunk": ("~/action_chunk", "pi0_ros/msg/ActionChunk"),
    "diagnostics": ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
}
"""What is recorded of the node: key -> (name, message type)."""


def output_types(interface: Interface) -> dict[str, str]:
    """Topic -> message type of what is recorded."""
    return {interface.absolute(name): kind for name, kind in OUTPUTS.values()}


class Session:
    """Plays one recording to one running node and records its answers.

    Attributes:
        recorder: what came from the node.
    """

    def __init__(
        self,
        node: Node,
        bag: Bag,
        topics: Mapping[str, Topic],
        interface: Interface,
        process: NodeProcess,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Creates publishers and subscriptions.

        Args:
            node: the player's node; somebody spins it.
            topics: topic in the recording -> what it is played for.
            process: the node under replay.
            interrupted: whether the user wants the replay to end.
        """
        self._bag = bag
        self._topics = topics
        self._interface = interface
        self._process = process
        self._interrupted = interrupted
        self._node = node
        self._sim_time = bag.start
        self._publishers = {topic: _create_publisher(node, need) for topic, need in topics.items()}
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 10)
        self.recorder = Recorder(
            node,
            interface.name,
            {key: interface.absolute(name) for key, (name, _) in OUTPUTS.items()},
            lambda: self._sim_time,
        )

    def poll(self) -> None:
        """Records what has come from the node.

        Raises:
            NodeEnded: the node's process ended.
            KeyboardInterrupt: the user wants the replay to end.
        """
        if self._interrupted():
            raise KeyboardInterrupt
        self.recorder.poll()
        self._process.check()

    def wait_until_ready(self, limit: float, on_poll: Callable[[], None] = lambda: None) -> None:
        """Returns once every topic is matched and the node has published its counters.

        Args:
            limit: seconds for the node to load its checkpoint and answer.
            on_poll: called every `POLL` seconds.

        Raises:
            NodeError: the limit passed; or others publish on these topics too.
            NodeEnded: the node's process ended.
        """
        started = time.monotonic()
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            self._change_state(transition, limit, on_poll)
        publishers: list[Publisher] = [*self._publishers.values(), self._clock]
        first_match = None
        while True:
            self.poll()
            on_poll()
            lonely = [p.topic_name for p in publishers if not p.get_subscription_count()]
            if not lonely and self.recorder.counters:
                break
            # It takes /clock at once, but the recorded topics only when its policy is loaded.
            matched = any(p.get_subscription_count() for p in self._publishers.values())
            if matched and first_match is None:
                first_match = time.monotonic()
            elapsed = time.monotonic() - started
            if elapsed > limit or (first_match and time.monotonic() - first_match > MATCH_LIMIT):
                self._fail_to_match(lonely, elapsed)
            time.sleep(POLL)
        self._check_alone()

    def _change_state(self, transition: int, limit: float, on_poll: Callable[[], None]) -> None:
        """Asks the node to configure or activate; waits for its answer."""
        configures = transition == Transition.TRANSITION_CONFIGURE
        name = "configure" if configures else "activate"
        changing = StateChange(self._node, self._interface.name, transition)
        end = time.monotonic() + limit
        try:
            while not changing.poll():
                self.poll()
                on_poll()
                if time.monotonic() > end:
                    raise NodeError(
                        f"the node {self._interface.name} did not {name} within {limit:.0f} s. Its"
                        f" last output:\n{self._process.last_output()}"
                    )
                time.sleep(POLL)
        except Refused as error:
            raise NodeError(
                f"the node {self._interface.name} did not {name}. Its last output:\n"
                f"{self._process.last_output()}"
            ) from error
        finally:
            changing.close()

    def _fail_to_match(self, lonely: list[str], elapsed: float) -> None:
        missing = [f"it does not subscribe to {topic} with the right type" for topic in lonely]
        if not self.recorder.counters:
            missing.append("it publishes no counters on /diagnostics")
        raise NodeError(
            f"the node {self._interface.name} is not ready after {elapsed:.0f} s: "
            f"{'; '.join(missing)}. Its last output:\n{self._process.last_output()}"
        )

    def _check_alone(self) -> None:
        outputs = ("~/joint_trajectory", "~/action_chunk")
        for topic in (CLOCK_TOPIC, *map(self._interface.absolute, outputs)):
            if self._node.count_publishers(topic) > 1:
                raise NodeError(
                    f"another process publishes {topic} in this ROS domain and would be mixed up "
                    "with the replay: end it, or unset ROS_DOMAIN_ID, so that the replay takes a "
                    "free domain"
                )

    def play(self, rate: float, on_tick: Callable[[int], None]) -> Playback:
        """Plays the recording; `on_tick` gets its time in ns.

        Raises:
            BagError: the recording is damaged.
            NodeEnded: the node's process ended.
        """

        def tick(sim_time: int) -> None:
            self.poll()
            on_tick(sim_time)

        types = {topic: need.type for topic, need in self._topics.items()}
        with ReadAhead(read_messages(self._bag, types)) as messages:
            return play(
                messages,
                lambda message: self._publishers[message.topic].publish(message.data),
                self._publish_clock,
                rate=rate,
                on_tick=tick,
                header_stamp=self._stamp,
            )

    def drain(self) -> bool:
        """Waits for the inference that runs at the end of the recording; False if it did not end.

        The clock stands still meanwhile, so no tick follows. The counters that the node publishes
        at the recording's last time tell when every tick has come to its end.
        """
        counters = self.recorder.counters
        seen, heard = len(counters), time.monotonic()
        limit = heard + DRAIN_LIMIT
        while time.monotonic() < min(limit, heard + SILENCE_LIMIT):
            self.poll()
            if counters[-1].stamp >= self._sim_time and counters[-1].idle:
                break
            # Again and again: the node's subscription to /clock is best effort.
            self._publish_clock(self._sim_time)
            if len(counters) > seen:
                seen, heard = len(counters), time.monotonic()
            time.sleep(POLL)
        else:
            return False
        # The counters may overtake the last chunk, which is on another topic.
        limit = time.monotonic() + ARRIVAL_LIMIT
        while len(self.recorder.chunks) < counters[-1].chunks and time.monotonic() < limit:
            time.sleep(POLL)
            self.poll()
        return True

    def _publish_clock(self, sim_time: int) -> None:
        self._sim_time = sim_time
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(sim_time, 1_000_000_000)
        self._clock.publish(message)

    def _stamp(self, message: Message) -> int | None:
        stamped = self._topics[message.topic].type in STAMPED_TYPES
        return header_stamp(message) if stamped else None


def _create_publisher(node: Node, need: Topic) -> Publisher:
    """Reliable, which every subscription can take; a lone instruction also stays for late ones."""
    qos = QoSProfile(depth=10)
    if need.type == "std_msgs/msg/String":
        qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
    package, _, name = need.type.split("/")
    message_type = getattr(importlib.import_module(f"{package}.msg"), name)
    return node.create_publisher(message_type, need.name, qos)
