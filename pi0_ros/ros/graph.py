"""Who else is in the ROS graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo


def full_name(endpoint: TopicEndpointInfo) -> str:
    """The full name of an endpoint's node."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def publishers(node: Node, topic: str) -> list[str]:
    """The full names of the nodes that publish on a topic, one per publisher.

    Args:
        topic: as written in `node`; remaps are applied.
    """
    return [full_name(one) for one in node.get_publishers_info_by_topic(topic)]
