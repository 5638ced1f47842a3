"""A policy that moves the arm gently about, or does what the file FAULT_CONTROL asks for.

The file holds one word; no file or an empty one: it behaves. It is read at every inference, so that
a test steers the policy wherever it runs.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pi0_ros.policy.types import ActionChunk, Observation

HORIZON = 50
DT = 0.02
HOME = np.array((0.7, -0.8, 0.9, 0.75, -0.65, 0.8))
SWING = 0.25  # radians about HOME
PERIOD = 4.0  # seconds of a swing
LAG = 0.8  # seconds in which the arm comes close to where it should be


def asked_for() -> str:
    """What the policy is to do, in a word."""
    path = os.environ.get("FAULT_CONTROL", "")
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError:
        return ""


class FakePolicy:
    """Every chunk begins where the arm is and nears a point that swings about HOME."""

    horizon = HORIZON
    device = "cpu"

    def __init__(self) -> None:
        self._sequence = 0

    def reset(self) -> None:
        self._sequence = 0

    def close(self) -> None:
        print("closing", flush=True)
        time.sleep(float(os.environ.get("FAULT_CLOSE_SECONDS", "0")))

    def infer(self, observation: Observation, sequence: int | None = None) -> ActionChunk:
        begun = time.perf_counter()
        for name, image in observation.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise AssertionError(f"camera {name}: {image.dtype} {image.shape} is no image")
            image[::8, ::8].sum()
        positions = self._gentle(observation)
        word = asked_for()
        if word:
            positions = FAULTS[word](positions)
        sequence = self._sequence if sequence is None else sequence
        self._sequence = sequence + 1
        return ActionChunk(
            positions=np.asarray(positions, np.float32),
            dt=DT,
            stamp=observation.stamp,
            sequence=sequence,
            seed=0,
            stage_times={"model": time.perf_counter() - begun},
        )

    def _gentle(self, observation: Observation) -> np.ndarray:
        t = observation.stamp % 10**12 / 1e9 + np.arange(1, HORIZON + 1)[:, None] * DT
        phase = np.arange(len(HOME))
        target = HOME + SWING * np.sin(2 * np.pi * t / PERIOD + phase)
        share = np.exp(-np.arange(1, HORIZON + 1)[:, None] * DT / LAG)
        return target + (observation.state - target) * share


def _raise(positions: np.ndarray) -> np.ndarray:
    raise RuntimeError("the policy was asked to raise")


def _hang(positions: np.ndarray) -> np.ndarray:
    print("hanging", flush=True)
    while asked_for() == "hang":
        time.sleep(0.01)
    return positions


def _hang_hard(positions: np.ndarray) -> np.ndarray:
    """Hold the interpreter's lock, as native code may, for longer than any test lasts."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    return positions


def _killed(positions: np.ndarray) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return positions


def _slow(positions: np.ndarray) -> np.ndarray:
    time.sleep(0.3)
    return positions


def _now_and_then(positions: np.ndarray) -> np.ndarray:
    """NaN in every third chunk."""
    _now_and_then.calls = getattr(_now_and_then, "calls", 0) + 1
    return positions * np.nan if _now_and_then.calls % 3 == 0 else positions


def _with(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def corrupt(positions: np.ndarray) -> np.ndarray:
        positions[7, 2] = value
        return positions

    return corrupt


def _fast(positions: np.ndarray) -> np.ndarray:
    """Swings within the positions that the joints have, at several times their speed."""
    return positions + 0.3 * np.sin(np.arange(1, HORIZON + 1)[:, None] * DT * 2 * np.pi / 0.2)


def _noise(positions: np.ndarray) -> np.ndarray:
    return positions + np.random.default_rng().normal(0, 0.004, positions.shape)


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "raise": _raise,
    "hang": _hang,
    "hang hard": _hang_hard,
    "killed": _killed,
    "slow": _slow,
    "NaN": _with(float("nan")),
    "NaN at times": _now_and_then,
    "infinite": _with(float("-inf")),
    "jump": lambda positions: positions + 1.0,
    "zeros": lambda positions: np.zeros_like(positions),
    "fast": _fast,
    "noise": _noise,
    "garbage": lambda positions: positions,  # these two are the server's
    "late": lambda positions: positions,
    "shape": lambda positions: positions[:, :4],
}


def load(parameters: object) -> FakePolicy:
    """A loader for the node and for the policy's own process."""
    print("loading", flush=True)
    time.sleep(float(os.environ.get("FAULT_LOAD_SECONDS", "0")))
    return FakePolicy()
