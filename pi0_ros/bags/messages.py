"""Messages as objects and as the bytes of a recording, by rosbags: no ROS is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from pi0_ros.bags.bag import IMAGE_TYPES, STATES_TYPE, BagError, Message, Recording, header_stamp
from pi0_ros.share import find_shared_file

CHUNK_TYPE = "pi0_ros/msg/ActionChunk"
SAMPLES_TYPE = "std_msgs/msg/Float64MultiArray"
TRAJECTORY_TYPE = "trajectory_msgs/msg/JointTrajectory"


@cache
def message_types() -> Typestore:
    """The message types of a recording, pi0_ros/msg/ActionChunk among them.

    Raises:
        FileNotFoundError: the package's share directory lacks the message's definition.
    """
    definition = find_shared_file("msg/ActionChunk.msg")
    if definition is None:
        raise FileNotFoundError("msg/ActionChunk.msg is not in the pi0_ros share directory")
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg(definition.read_text(), CHUNK_TYPE))
    return types


def make(kind: str, *values: Any, **fields: Any) -> Any:
    """A message with all its fields, such as make("std_msgs/msg/String", data="pick it up")."""
    return message_types().types[kind](*values, **fields)


def make_header(stamp: int, frame_id: str = "") -> Any:
    """A std_msgs/Header; `stamp` in nanoseconds."""
    time = make("builtin_interfaces/msg/Time", *divmod(stamp, 1_000_000_000))
    return make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def make_image(stamp: int, rgb: np.ndarray, frame_id: str = "") -> Any:
    """A sensor_msgs/Image, rgb8, of [height, width, 3] uint8; `stamp` in nanoseconds."""
    height, width, _ = rgb.shape
    data = np.ascontiguousarray(rgb).ravel()
    fields = (height, width, "rgb8", 0, width * 3, data)
    return make(IMAGE_TYPES[0], make_header(stamp, frame_id), *fields)


def encode(message: Any) -> bytes:
    return bytes(message_types().serialize_cdr(message, message.__msgtype__))


def decode(data: bytes, kind: str) -> Any:
    """A recorded message; `data` of an image are a bytearray, which compares as a whole.

    Raises:
        ValueError: the bytes are no message of this type.
    """
    try:
        message: Any = message_types().deserialize_cdr(data, kind)
    except Exception as error:  # of many kinds, depending on where the bytes end
        raise ValueError(f"{len(data)} bytes that are no {kind}: {error}") from error
    data = getattr(message, "data", None)
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        message.data = bytearray(data)
    return message


def decode_or_blame(bag: Recording, message: Message, kind: str) -> Any:
    """As `decode`, where a damaged message means that the recording cannot be used.

    Raises:
        BagError: names the recording, the topic and what is wrong.
    """
    try:
        return decode(message.data, kind)
    except ValueError as error:
        cause = "the recording is damaged"
        if kind == CHUNK_TYPE:
            cause += ", or of another version of this package"
        raise BagError(f"{bag.path}: a message on {message.topic}: {error}: {cause}") from error


def joint_positions(
    bag: Recording, topics: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Joint name -> (header stamps in ns [k], positions in rad [k]) of topics of joint states.

    Raises:
        BagError: the recording or a message in it is damaged.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for message in bag.messages(dict.fromkeys(topics, STATES_TYPE)):
        stamp = header_stamp(message)
        state = decode_or_blame(bag, message, STATES_TYPE)
        for name, position in zip(state.name, state.position, strict=False):
            series.setdefault(name, []).append((stamp, position))
    columns = {name: list(zip(*pairs, strict=True)) for name, pairs in series.items()}
    return {name: (np.array(t, np.int64), np.array(p, float)) for name, (t, p) in columns.items()}
