"""Deliberate faults of an integration; test_ablations has what each does to the success.

Random weights cannot show that images, joint order, units and instruction arrive as they should;
a policy that works fails at once when they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.policy.types import ActionChunk, Observation


def _as_seen(observation: Observation) -> Observation:
    return observation


def _as_wanted(chunk: ActionChunk) -> ActionChunk:
    return chunk


def _as_meant(meant: str, instructions: Sequence[str]) -> str:
    return meant


@dataclass(frozen=True)
class Ablation:
    """One fault; what is not given stays as it is.

    Attributes:
        fault: in words.
        observe: what the policy gets instead of an observation.
        act: what is taken for the policy's answer.
        tell: the instruction meant, all of the scene -> the instruction that the policy gets.
    """

    fault: str
    observe: Callable[[Observation], Observation] = _as_seen
    act: Callable[[ActionChunk], ActionChunk] = _as_wanted
    tell: Callable[[str, Sequence[str]], str] = _as_meant


def _images(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Observation], Observation]:
    def observe(observation: Observation) -> Observation:
        images = {name: change(image) for name, image in observation.images.items()}
        return replace(observation, images=images)

    return observe


def _swapped(observation: Observation) -> Observation:
    names, images = list(observation.images), list(observation.images.values())
    return replace(observation, images=dict(zip(names, images[::-1], strict=True)))


def _black(camera: str) -> Callable[[Observation], Observation]:
    def observe(observation: Observation) -> Observation:
        images = dict(observation.images)
        images[camera] = np.zeros_like(images[camera])
        return replace(observation, images=images)

    return observe


def _state(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Observation], Observation]:
    return lambda observation: replace(observation, state=change(observation.state))


def _actions(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[ActionChunk], ActionChunk]:
    return lambda chunk: replace(chunk, positions=change(chunk.positions))


def _reversed(values: np.ndarray) -> np.ndarray:
    """The last axis, which is of the joints, reversed."""
    return np.ascontiguousarray(values[..., ::-1])


def _another(meant: str, instructions: Sequence[str]) -> str:
    return instructions[(instructions.index(meant) + 1) % len(instructions)]


NONE = "none"
ABLATIONS = {
    NONE: Ablation("nothing is wrong"),
    "swapped-cameras": Ablation("each camera's image arrives as the other's", observe=_swapped),
    "bgr": Ablation("red and blue of the images are swapped", _images(lambda i: i[..., ::-1])),
    "upside-down": Ablation("the cameras hang upside down", _images(lambda i: i[::-1, ::-1])),
    "black-front": Ablation("the front camera is black", _black("front")),
    "black-wrist": Ablation("the wrist camera is black", _black("wrist")),
    "degrees": Ablation(
        "degrees go in, and what comes out is read as degrees",
        _state(np.degrees),
        _actions(np.radians),
    ),
    "degrees-state": Ablation("the state is in degrees", _state(np.degrees)),
    "degrees-actions": Ablation("the actions are read as degrees", act=_actions(np.radians)),
    "reversed-joints": Ablation(
        "joints are in reverse order, going in and coming out",
        _state(_reversed),
        _actions(_reversed),
    ),
    "reversed-state": Ablation("the joints of the state are in reverse order", _state(_reversed)),
    "wrong-instruction": Ablation("the policy gets another instruction", tell=_another),
}
"""Name -> what is done to the loop."""
