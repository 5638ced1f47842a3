"""Writes what the simulated robot senses into a rosbag2, by `rosbags` alone: no ROS needed."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pi0_ros.sim.scene import JOINTS

STORAGES = ("mcap", "sqlite3")
_FORMAT_VERSION = 8  # of rosbag2: the newest that Humble reads; newer releases read it too
_JPEG_QUALITY = 90


class BagRecorder:
    """A context manager around a new bag; `counts` says how many messages went to each topic.

    Args:
        path: the bag's directory; it must not exist.
        storage: `mcap` (zstd in its chunks, which every MCAP reader undoes by itself) or
            `sqlite3` (zstd per message, declared in metadata.yaml).
        compressed: pictures as JPEG in sensor_msgs/CompressedImage instead of sensor_msgs/Image.
    """

    def __init__(self, path: Path, *, storage: str, compressed: bool) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        plugin, mode = {
            "mcap": (StoragePlugin.MCAP, CompressionMode.STORAGE),
            "sqlite3": (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        }[storage]
        self._writer = Writer(path, version=_FORMAT_VERSION, storage_plugin=plugin)
        self._writer.set_compression(mode, CompressionFormat.ZSTD)
        self._typestore = get_typestore(Stores.ROS2_HUMBLE)
        self._compressed = compressed
        self._connections: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "BagRecorder":
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def image(self, stamp: int, camera: str, picture: np.ndarray) -> None:
        """Records a camera's picture, [H, W, 3] uint8 RGB, at a time in nanoseconds."""
        header = self._header(stamp, f"{camera}_camera_optical_frame")
        topic = f"/{camera}/image_raw"
        if self._compressed:
            data = jpeg(picture)
            message = self._new(
                # What image_transport's compressed publisher writes for an rgb8 picture.
                "sensor_msgs/msg/CompressedImage",
                header=header,
                format="rgb8; jpeg compressed bgr8",
                data=data,
            )
            self._write(stamp, f"{topic}/compressed", message)
            return
        height, width, channels = picture.shape
        message = self._new(
            "sensor_msgs/msg/Image",
            header=header,
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=width * channels,
            data=picture.reshape(-1),
        )
        self._write(stamp, topic, message)

    def joint_states(self, stamp: int, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Records the six joints, radians and radians per second, at a time in nanoseconds."""
        message = self._new(
            "sensor_msgs/msg/JointState",
            header=self._header(stamp, ""),
            name=list(JOINTS),
            position=positions,
            velocity=velocities,
            effort=np.zeros(0),
        )
        self._write(stamp, "/joint_states", message)

    def instruction(self, stamp: int, text: str) -> None:
        """Records an instruction at a time in nanoseconds."""
        self._write(stamp, "/instruction", self._new("std_msgs/msg/String", data=text))

    def _new(self, msgtype: str, **fields: Any) -> Any:
        return self._typestore.types[msgtype](**fields)

    def _header(self, stamp: int, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(stamp, 10**9)
        time = self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._new("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def _write(self, stamp: int, topic: str, message: Any) -> None:
        msgtype = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self._typestore
            )
        data = self._typestore.serialize_cdr(message, msgtype)
        self._writer.write(self._connections[topic], stamp, data)
        self.counts[topic] += 1


def jpeg(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB -> [bytes] uint8, a JPEG file."""
    import cv2

    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return data.reshape(-1)
