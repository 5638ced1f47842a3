"""Who else is in the ROS graph."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription
    from rclpy.topic_endpoint_info import TopicEndpointInfo

MATCHING = 0.5
"""Seconds from a publisher's name in the graph until its messages arrive, at most."""


def full_name(endpoint: TopicEndpointInfo) -> str:
    """The full name of an endpoint's node."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def publishers(node: Node, topic: str) -> list[str]:
    """The full names of the nodes that publish on a topic, one per publisher.

    Args:
        topic: as written in `node`; remaps are applied.
    """
    return [full_name(one) for one in node.get_publishers_info_by_topic(topic)]


def unheard(
    node: Node,
    topic: str,
    kind: type,
    subscription: Subscription,
    qos: QoSProfile,
    patience: float = MATCHING,
) -> list[str]:
    """The publishers of a topic whose messages cannot arrive at a subscription, with the reason.

    Args:
        kind: the type of the messages.
        qos: of the subscription.
        patience: seconds that publishers which only just came may take to match.
    """
    deadline = time.monotonic() + patience
    while True:
        found = _unheard(node, topic, kind, subscription, qos)
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.02)


def _unheard(
    node: Node, topic: str, kind: type, subscription: Subscription, qos: QoSProfile
) -> list[str]:
    wanted = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
    found, right = [], []
    for one in node.get_publishers_info_by_topic(topic):
        compatible, reason = qos_check_compatible(one.qos_profile, qos)
        if one.topic_type != wanted:
            found.append(f"{full_name(one)} publishes {one.topic_type}, not {wanted}")
        elif compatible == QoSCompatibility.ERROR:
            found.append(f"{full_name(one)}: {reason}")
        else:
            right.append(full_name(one))
    if not hasattr(subscription, "get_publisher_count"):  # Humble
        return found
    matched = subscription.get_publisher_count()
    if matched < len(right):
        names = ", ".join(right)
        found.append(f"{len(right) - matched} of {len(right)} ({names}) do not match")
    return found
