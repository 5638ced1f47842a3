"""QoS profiles of the node's topics, and their overrides by parameters.

An override has the name that rclpy and rclcpp give it, with the topic's resolved name:
`qos_overrides./joint_states.subscription.reliability`. rclpy would read it where a subscription is
created, at activation. It is read at the start instead, so that the start fails if it is wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from pi0_ros.node.parameters import NodeParameters, ParameterError, given_values

DEEPEST = 1000
"""Messages in a queue, at most."""

LEAST_STOPS = 10
"""Messages in the queue of emergency stops, at least: in a shorter one a stop may get lost."""

_HISTORIES = ("keep_last", "keep_all")
_RELIABILITIES = ("reliable", "best_effort")
_OF_RCLPY = ("qos_overrides./clock.", "qos_overrides./parameter_events.")


@dataclass(frozen=True)
class QosProfiles:
    """One profile per topic, overrides applied; `images` by camera, `joint_states` by topic,
    `outputs` by output."""

    images: Mapping[str, QoSProfile]
    joint_states: Mapping[str, QoSProfile]
    instruction: QoSProfile
    emergency_stop: QoSProfile
    deadman: QoSProfile
    action_chunk: QoSProfile
    outputs: Mapping[str, QoSProfile]


def declare_qos(node: Node, parameters: NodeParameters) -> QosProfiles:
    """Read and declare the overrides of every topic of the node.

    Raises:
        ParameterError: lists every unusable override.
    """
    given = {n: v for n, v in given_values(node).items() if n.startswith("qos_overrides.")}
    heard = [
        f"qos_overrides.{node.resolve_topic_name(topic)}.subscription.reliability"
        for topic in ("instruction", parameters.emergency_stop_topic, parameters.deadman_topic)
    ]
    problems: list[str] = []
    known: list[str] = []

    def profile(
        topic: str, entity: str, depth: int, reliability: str, least: int = 1
    ) -> QoSProfile:
        prefix = f"qos_overrides.{node.resolve_topic_name(topic)}.{entity}"
        values = {"history": "keep_last", "depth": depth, "reliability": reliability}
        for policy in values:
            name = f"{prefix}.{policy}"
            if name in heard:
                continue
            known.append(name)
            if name in given:
                problem = _problem(policy, given[name], least)
                if problem:
                    problems.append(f"{name}: must be {problem}, got {given[name]!r}")
                else:
                    values[policy] = given[name]
            if not node.has_parameter(name):  # a topic may serve two purposes
                descriptor = ParameterDescriptor(description=f"{policy} of {topic}", read_only=True)
                node.declare_parameter(name, values[policy], descriptor, ignore_override=True)
        return QoSProfile(
            history=HistoryPolicy[values["history"].upper()],
            depth=values["depth"],
            reliability=ReliabilityPolicy[values["reliability"].upper()],
        )

    profiles = QosProfiles(
        # The newest message only, from publishers of either reliability.
        images={
            camera.name: profile(camera.topic, "subscription", 1, "best_effort")
            for camera in parameters.cameras
        },
        # Deep: between two messages of a slow publisher lie many of a fast one.
        joint_states={
            topic: profile(topic, "subscription", 100, "best_effort")
            for topic in parameters.joint_states_topics
        },
        # Of these three every publisher is heard, whatever its reliability.
        instruction=profile("instruction", "subscription", 1, "best_effort"),
        # Deep, so that later messages, of other publishers too, do not push a stop out.
        emergency_stop=profile(
            parameters.emergency_stop_topic, "subscription", 100, "best_effort", LEAST_STOPS
        ),
        deadman=profile(parameters.deadman_topic, "subscription", 1, "best_effort"),
        action_chunk=profile("~/action_chunk", "publisher", 1, "reliable"),
        outputs={
            output.name: profile(output.topic, "publisher", 1, "reliable")
            for output in parameters.effective_outputs
        },
    )
    if problems:
        raise ParameterError(problems)
    for name in sorted(set(given) - set(known)):
        if name in heard:
            text = "not used: publishers of every reliability are heard"
            node.get_logger().warning(f"parameter {name}: {text}")
        elif not name.startswith(_OF_RCLPY):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            node.get_logger().warning(f"parameter {name}: this node has none of that name{hint}")
    return profiles


def _problem(policy: str, value: object, least: int) -> str:
    """What an override should be instead, or ""; `least`: messages in a queue."""
    if policy == "depth":
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole and least <= value <= DEEPEST
        return "" if fits else f"a whole number in [{least}, {DEEPEST}]"
    choices = _HISTORIES if policy == "history" else _RELIABILITIES
    return "" if value in choices else f"one of {list(choices)}"
