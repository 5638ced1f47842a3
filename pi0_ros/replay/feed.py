"""Recorded messages into the node's own `ObservationBuffer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pi0_ros.bags.bag import Message
from pi0_ros.bags.messages import decode
from pi0_ros.motion.refusal import Reason
from pi0_ros.node.interface import Interface, Topic
from pi0_ros.node.observation import INSTRUCTION, JOINT_STATES, ObservationBuffer


class Feed:
    """Puts each message where the node's subscription would."""

    def __init__(
        self, interface: Interface, topics: Mapping[str, Topic], buffer: ObservationBuffer
    ) -> None:
        """`topics` as `pi0_ros.replay.case.Case` has them."""
        parameters = interface.parameters
        self._topics, self._buffer = topics, buffer
        puts: list[tuple[str, Callable[[Any], object]]] = [
            *((f"camera {c}", partial(buffer.put_image, c)) for c in parameters.camera_names),
            *(
                (JOINT_STATES, partial(buffer.put_joint_state, topic=topic))
                for topic in parameters.joint_states_topics
            ),
            (INSTRUCTION, lambda message: buffer.put_instruction(message.data)),
        ]
        streams = zip(interface.observed, puts, strict=True)
        self._streams = {topic.name: stream for topic, stream in streams}

    def put(self, message: Message) -> None:
        """A message that came now; one that cannot be decoded is counted as malformed."""
        topic = self._topics[message.topic]
        name, put = self._streams[topic.name]
        try:
            content = decode(message.data, topic.type)
        except ValueError as error:
            self._buffer.reject(name, Reason.MALFORMED, str(error))
            return
        put(content)
