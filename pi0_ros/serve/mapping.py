"""Under which keys a request has images, state and prompt: one table per kind of openpi client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.errors import UserError
from pi0_ros.plain_yaml import read_yaml_file
from pi0_ros.serve.wire import WireError, numbers
from pi0_ros.share import user_path


class MappingError(UserError, ValueError):
    """A file that holds no mapping."""


@dataclass(frozen=True)
class KeyMapping:
    """Keys of a request. A slash in a key is part of it, or with `nested` goes one map deeper.

    Attributes:
        images: key -> camera, as the checkpoint names it. None: `images/<camera>` for each.
        state: key -> how many numbers of the state it has, in their order; 0: all of them.
        nested: whether slashes separate maps in maps.
        channels_first: whether images are sent as [3, H, W]; both are understood.
    """

    images: Mapping[str, str] | None
    state: Mapping[str, int]
    nested: bool = False
    channels_first: bool = False

    def key_of(self, camera: str) -> str | None:
        """The key of a camera's image; None where there is none."""
        if self.images is None:
            return f"images/{camera}"
        return next((key for key, name in self.images.items() if name == camera), None)

    def request(
        self, images: Mapping[str, Any], state: np.ndarray, instruction: str
    ) -> dict[str, Any]:
        """What is sent of an observation.

        Args:
            images: camera -> [H, W, 3] uint8, or the bytes of a JPEG.
            state: [joints].
        """
        request: dict[str, Any] = {"prompt": instruction}
        for camera, image in images.items():
            if self.channels_first and isinstance(image, np.ndarray):
                image = np.moveaxis(image, 2, 0)
            self._put(request, self.key_of(camera), image)
        begin = 0
        for key, count in self.state.items():
            end = begin + count if count else len(state)
            self._put(request, key, state[begin:end])
            begin = end
        return request

    def fits(self, request: Mapping[str, Any], cameras: Sequence[str]) -> bool:
        """Whether the request has this mapping's state, and an image of one of the cameras."""
        keys = [key for key in map(self.key_of, cameras) if key is not None]
        return all(_get(request, key) is not None for key in self.state) and (
            not cameras or any(_get(request, key) is not None for key in keys)
        )

    def read(
        self, request: Mapping[str, Any], cameras: Sequence[str]
    ) -> tuple[dict[str, Any], np.ndarray, str]:
        """What was sent as images of the cameras that are there, state [joints], and instruction.

        Raises:
            WireError: something that is there has another form.
        """
        images = {}
        for camera in cameras:
            key = self.key_of(camera)
            sent = None if key is None else _get(request, key)
            if sent is not None:
                images[camera] = sent
        parts = [
            np.atleast_1d(numbers(_get(request, key), key)).astype(np.float32) for key in self.state
        ]
        if any(part.ndim != 1 for part in parts):
            raise WireError(f"the state: expected one dimension, got {[p.shape for p in parts]}")
        prompt = request.get("prompt")
        if not isinstance(prompt, str):
            raise WireError(f"prompt: expected text, got {type(prompt).__name__}")
        return images, np.concatenate(parts), prompt

    def _put(self, request: dict[str, Any], key: str | None, value: Any) -> None:
        *outer, last = key.split("/") if self.nested else [key]
        for name in outer:
            request = request.setdefault(name, {})
        request[last] = value


def _get(request: Any, key: str) -> Any:
    """The value of a key, flat or nested; None where it is missing."""
    if key in request:
        return request[key]
    for name in key.split("/"):
        request = request.get(name) if isinstance(request, Mapping) else None
    return request


OWN = KeyMapping(images=None, state={"state": 0}, nested=True)
"""This package's: cameras and joints as the checkpoint has them."""

MAPPINGS: dict[str, KeyMapping] = {
    "droid": KeyMapping(
        images={
            "observation/exterior_image_1_left": "base_0_rgb",
            "observation/wrist_image_left": "left_wrist_0_rgb",
        },
        state={"observation/joint_position": 7, "observation/gripper_position": 1},
    ),
    "libero": KeyMapping(
        images={"observation/image": "base_0_rgb", "observation/wrist_image": "left_wrist_0_rgb"},
        state={"observation/state": 0},
    ),
    "aloha": KeyMapping(
        images={
            "images/cam_high": "base_0_rgb",
            "images/cam_left_wrist": "left_wrist_0_rgb",
            "images/cam_right_wrist": "right_wrist_0_rgb",
        },
        state={"state": 0},
        nested=True,
        channels_first=True,
    ),
}
"""Name -> keys of openpi's own policies (droid_policy.py, libero_policy.py, aloha_policy.py), with
the camera that openpi's transforms make of each."""


def read_mapping(name: str) -> KeyMapping:
    """A mapping by its name in `MAPPINGS`, or of a YAML file with the fields of `KeyMapping`.

    Raises:
        MappingError: neither; says what is wrong with the file.
    """
    if name in MAPPINGS:
        return MAPPINGS[name]
    file = user_path(name)
    if not file.is_file():
        raise MappingError(f"mapping {name!r}: neither one of {', '.join(MAPPINGS)} nor a file")
    try:
        document = read_yaml_file(file)
    except (OSError, UserError) as error:
        raise MappingError(f"mapping {file}: {error}") from error
    return _from_document(document, file)


def _from_document(document: Any, file: Path) -> KeyMapping:
    if not isinstance(document, dict):
        raise MappingError(f"{file}: expected a map with images and state")
    unknown = set(document) - {"images", "state", "nested", "channels_first"}
    images, state = document.get("images"), document.get("state")
    flags = {name: document.get(name, False) for name in ("nested", "channels_first")}
    if unknown:
        raise MappingError(f"{file}: unknown keys {sorted(map(str, unknown))}")
    if not isinstance(images, dict) or not all(
        isinstance(word, str) for pair in images.items() for word in pair
    ):
        raise MappingError(f"{file}: images must be a map of key: camera")
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and type(count) is int and count >= 0 for key, count in state.items()
    ):
        raise MappingError(f"{file}: state must be a map of key: how many numbers")
    if not state or (0 in state.values() and len(state) > 1):
        raise MappingError(f"{file}: state must be one key with 0 (all), or keys with their counts")
    if not all(isinstance(value, bool) for value in flags.values()):
        raise MappingError(f"{file}: nested and channels_first must be true or false")
    return KeyMapping(images, state, **flags)
