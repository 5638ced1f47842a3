"""Cameras, state and actions that a LeRobot config.json declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pi0_ros.checkpoint.document import Document
from pi0_ros.checkpoint.errors import shown

IMAGE_PREFIX = "observation.images."
# LeRobot's `empty_cameras`: slots that were never filled.
_EMPTY_CAMERA = IMAGE_PREFIX + "empty_camera_"
STATE, ACTION = "observation.state", "action"


class Features:
    """What config.json declares.

    Attributes:
        cameras: names in the order in which the model reads them.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        inputs = document.child("input_features")
        self._features = {STATE: inputs, ACTION: document.child("output_features")}
        cameras = []
        for name in inputs:
            feature = inputs.child(name)
            if feature.text("type") != "VISUAL" or name.startswith(_EMPTY_CAMERA):
                continue
            shape = feature.integers("shape")
            if len(shape) == 3 and 3 not in (shape[0], shape[-1]):
                feature.problem(
                    f"the images have shape {list(shape)}; pi0 sees three channels, and a depth"
                    " image has none of them. Train without this camera"
                )
            cameras.append(name.removeprefix(IMAGE_PREFIX).removeprefix("observation."))
        self.cameras = tuple(cameras)
        if not cameras:
            document.problem("input_features name no camera (type VISUAL)")

    def size(self, name: str, lengths: Collection[int], padded: int) -> int:
        """How many numbers a feature has.

        A fine-tune that was started from a base checkpoint keeps the base's feature, padded to the
        model's size. The statistics are those of its own data.

        Args:
            name: `STATE` or `ACTION`.
            lengths: of the statistics that are used; empty where values are not normalised.
            padded: what the model pads the feature to.
        """
        features = self._features[name]
        if name not in features:
            self._document.problem(f"feature '{name}' is missing, got {shown(sorted(features))}")
            return 0
        shape = features.child(name).integers("shape")
        if len(shape) != 1 or not 1 <= shape[0] <= padded:
            features.problem(
                f"{name} must have a shape [n], n from 1 to {padded}, got {shown(shape)}"
            )
            return 0
        own = min(lengths, default=shape[0])
        return own if shape[0] == padded and 1 <= own < padded else shape[0]


def check_images(modes: Mapping[str, str], problems: list[str]) -> None:
    if modes.get("VISUAL", "IDENTITY") != "IDENTITY":
        problems.append(f"images are normalised by {modes['VISUAL']}; pi0 takes them as they are")


def check_sizes(state: int, action: int, source: str, problems: list[str]) -> None:
    """A joint trajectory has as many numbers as the state."""
    if state and action and state != action:
        problems.append(
            f"{source}: {state} state values but {action} actions: a joint trajectory needs one of "
            "each per joint"
        )
