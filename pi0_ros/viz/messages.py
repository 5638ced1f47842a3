"""A scene as messages for RViz: markers, a path, and joint states of a ghost robot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pi0_ros.viz.scene import REJECTED, Line, Scene, ToolPath

LIFETIME = 1.0
"""Seconds after which RViz removes a marker that is not published again."""

WIDTHS = {
    "collision": 0.01,
    "chunk": 0.005,
    "executed": 0.004,
    "passed": 0.003,
    "replaced": 0.002,
    "rejected": 0.004,
}
"""Line, which is a marker's namespace -> metres."""

_TEXT_HEIGHT = 0.025  # metres of a line of text
_TEXT_ABOVE = 0.08  # metres from the tool up to the text


def marker_array(scene: Scene, frame: str, now: int) -> MarkerArray:
    """visualization_msgs/MarkerArray: a LINE_STRIP per line, namespace by name, and the text.

    Args:
        frame: the robot's root link, in which the scene's places are.
        now: nanoseconds of the node's clock, which stamps the markers.
    """
    header = Header(stamp=_time(now), frame_id=frame)
    lines = scene.lines(now)
    message = MarkerArray(markers=[_line_strip(line, header) for line in lines])
    collision = scene.collision(now)
    if collision is not None:
        pair, places = collision
        line = Line("collision", places, np.tile(REJECTED, (2, 1)))
        label = _text("collision_text", pair, places.mean(axis=0), header)
        label.color = ColorRGBA(**dict(zip("rgba", REJECTED, strict=True)))
        message.markers += [_line_strip(line, header), label]
    text = scene.text(now)
    if text:
        near = next((line.places[0] for line in lines if line.name in ("chunk", "rejected")), None)
        if near is None and scene.newest is not None:
            near = scene.newest.places[-1]
        above = np.zeros(3) if near is None else near + np.array([0.0, 0.0, _TEXT_ABOVE])
        message.markers.append(_text("text", text, above, header))
    return message


def path_message(path: ToolPath, frame: str) -> Path:
    """nav_msgs/Path: the tool's pose at each step, stamped with the time at which it is due."""
    message = Path(header=Header(stamp=_time(path.stamp), frame_id=frame))
    rows = zip(path.times.tolist(), path.places.tolist(), path.orientations.tolist(), strict=True)
    for time, place, quaternion in rows:
        pose = PoseStamped(header=Header(stamp=_time(time), frame_id=frame))
        position, orientation = pose.pose.position, pose.pose.orientation
        position.x, position.y, position.z = place
        orientation.x, orientation.y, orientation.z, orientation.w = quaternion
        message.poses.append(pose)
    return message


def ghost_message(values: Mapping[str, float], now: int) -> JointState:
    """sensor_msgs/JointState of joint -> radians (metres), stamped `now` in nanoseconds."""
    header = Header(stamp=_time(now))
    return JointState(header=header, name=list(values), position=list(values.values()))


def _line_strip(line: Line, header: Header) -> Marker:
    marker = _marker(line.name, Marker.LINE_STRIP, header)
    marker.scale.x = WIDTHS[line.name]
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in line.places.tolist()]
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in line.colours.tolist()]
    # For displays that ignore the colours of the points.
    marker.color = marker.colors[0]
    return marker


def _text(name: str, text: str, place: np.ndarray, header: Header) -> Marker:
    marker = _marker(name, Marker.TEXT_VIEW_FACING, header)
    marker.text, marker.scale.z = text, _TEXT_HEIGHT
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    x, y, z = place.tolist()
    marker.pose.position = Point(x=x, y=y, z=z)
    return marker


def _marker(name: str, kind: int, header: Header) -> Marker:
    marker = Marker(header=header, ns=name, id=0, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.lifetime = Duration(seconds=LIFETIME).to_msg()
    return marker


def _time(nanoseconds: int) -> Time:
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)  # rclpy's own refuses times below 0
    return Time(sec=sec, nanosec=nanosec)
