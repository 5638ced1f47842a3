"""One recording evaluated: what the policy predicts at each observation against what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pi0_ros.bags.bag import BagError, Message, open_bag, read_messages
from pi0_ros.eval.sums import Sums, sums_of
from pi0_ros.eval.truth import read_truth
from pi0_ros.node.arguments import ArgumentsError
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.interface import read_interface
from pi0_ros.node.observation import Snapshot
from pi0_ros.node.preflight import ContractError, LoadError
from pi0_ros.replay.offline import load, open_offline
from pi0_ros.replay.steps import Published, SeededPolicy, Steps
from pi0_ros.ros.diagnostics import refused_since

ERRORS = (BagError, ContractError, ArgumentsError, LoadError, OSError)
THUMBNAILS = 8
_WIDTH = 160
_DRAWN_CHUNKS, _DRAWN_POINTS = 150, 2000


@dataclass(frozen=True)
class Job:
    """What is evaluated and how; the same for every process, whoever runs it.

    Attributes:
        bag: path of the recording; absolute, if other processes are to find it.
        name: what people call it.
        ros_args: the node's ROS arguments, the checkpoint among them.
        remaps: (topic in the recording, topic to play it on).
        target: topic of commands to compare with; "": the joint states.
        threads: of torch.
        pictures: keep what a page shows.
    """

    bag: str
    name: str
    ros_args: tuple[str, ...]
    remaps: tuple[tuple[str, str], ...] = ()
    target: str = ""
    threads: int = 1
    pictures: bool = False


@dataclass(frozen=True)
class Drawn:
    """What a page shows of a recording.

    Attributes:
        start: ns that `stamps` and `times` count from.
        stamps: [n] seconds of the observations, at most some 150 of them.
        predicted: [n, h, j] rad.
        times, recorded: [k] seconds and [k, j] rad.
        thumbnails: camera -> (seconds, JPEG).
    """

    stamps: np.ndarray
    predicted: np.ndarray
    times: np.ndarray
    recorded: np.ndarray
    thumbnails: Mapping[str, tuple[tuple[float, bytes], ...]]


@dataclass(frozen=True)
class Evaluated:
    """A recording evaluated, or why it could not be.

    Attributes:
        problem: "" if it could.
        duration: seconds of the part played.
        source: topic of what was compared with.
        refused: reason -> observations refused; later than the first second in `refused_later`.
        sums: None with a problem.
        seconds: [n] wall time of each inference.
    """

    bag: str
    problem: str = ""
    duration: float = 0.0
    source: str = ""
    joints: tuple[str, ...] = ()
    dt: float = 0.0
    instructions: tuple[str, ...] = ()
    refused: Mapping[str, int] | None = None
    refused_later: Mapping[str, int] | None = None
    sums: Sums | None = None
    seconds: tuple[float, ...] = ()
    drawn: Drawn | None = None


@lru_cache(maxsize=1)
def policy_of(ros_args: tuple[str, ...], threads: int) -> SeededPolicy:
    """The policy, loaded once per process."""
    import torch

    parameters = read_interface(ros_args).parameters
    policy = load(parameters)
    torch.set_num_threads(threads)
    return policy


def evaluate(job: Job, on_time: Callable[[float], None] = lambda seconds: None) -> Evaluated:
    """Evaluates a recording; what is wrong with it is part of the result.

    Args:
        on_time: gets the seconds of the recording that are done.
    """
    try:
        return _evaluate(job, on_time)
    except ERRORS as error:
        return Evaluated(job.name, problem=str(error))


def _evaluate(job: Job, on_time: Callable[[float], None]) -> Evaluated:
    offline = open_offline(job.bag, job.ros_args, dict(job.remaps))
    parameters, joints = offline.parameters, offline.parameters.joint_names
    truth = read_truth(offline.bag, offline.joint_states(), job.target, joints)
    policy = policy_of(job.ros_args, job.threads)
    steps = Steps(parameters, offline.interface.observed, offline.topics, policy)
    published: list[Published] = []
    album = _Album(offline.bag.start, offline.bag.end, parameters.image_transport)

    def messages() -> Iterator[Message]:
        for message in read_messages(offline.bag, offline.types()):
            on_time((message.time - offline.bag.start) / 1e9)
            yield message

    for event in steps.run(messages()):
        if isinstance(event, Published):
            if job.pictures:
                album.look(event)
            published.append(_without_pictures(event))
    if not published:
        reasons = [f"{reason} ({text})" for reason, (_, text) in steps.first_refused.items()]
        raise BagError(f"{job.bag}: no chunk came; refused: {'; '.join(reasons) or 'nothing'}")
    stamps = np.array([p.chunk.stamp for p in published], np.int64)
    predicted = np.array([p.chunk.positions for p in published], np.float64)
    dt = parameters.action_dt
    due = stamps[:, None] + np.round((np.arange(predicted.shape[1]) + 1) * dt * 1e9).astype(
        np.int64
    )
    recorded = truth.at(due.ravel()).reshape(predicted.shape)
    if not np.isfinite(recorded).any():
        raise BagError(
            f"{job.bag}: {truth.source} says nothing about the times after the observations"
        )
    state = np.array([p.snapshot.state for p in published])
    counters, start = steps.counters, steps.playback.start
    return Evaluated(
        bag=job.name,
        duration=steps.playback.duration,
        source=truth.source,
        joints=joints,
        dt=dt,
        instructions=tuple(dict.fromkeys(p.snapshot.instruction for p in published)),
        refused=counters[-1].refused,
        refused_later=refused_since(counters, start + 1_000_000_000),
        sums=sums_of(predicted, recorded, state, stamps, dt),
        seconds=tuple(p.seconds for p in published),
        drawn=_drawn(stamps, predicted, truth.at, start, steps.playback.end, album)
        if job.pictures
        else None,
    )


def _without_pictures(event: Published) -> Published:
    """A recording's pictures do not fit into memory."""
    s = event.snapshot
    bare = Snapshot({}, s.image_stamps, s.state, s.state_stamp, s.instruction)
    return Published(event.time, event.chunk, bare, event.seconds, event.executed)


def _drawn(
    stamps: np.ndarray,
    predicted: np.ndarray,
    at: Callable[[np.ndarray], np.ndarray],
    start: int,
    end: int,
    album: _Album,
) -> Drawn:
    chosen = np.unique(np.linspace(0, len(stamps) - 1, _DRAWN_CHUNKS).round().astype(int))
    times = np.linspace(0, end - start, _DRAWN_POINTS).astype(np.int64)
    return Drawn(
        stamps=(stamps[chosen] - start) / 1e9,
        predicted=predicted[chosen],
        times=times / 1e9,
        recorded=at(start + times),
        thumbnails={camera: tuple(found) for camera, found in album.found.items()},
    )


class _Album:
    """Small pictures of every camera, evenly along time."""

    def __init__(self, start: int, end: int, transport: str) -> None:
        self.found: dict[str, list[tuple[float, bytes]]] = {}
        self._start, self._period = start, max(1, (end - start) // THUMBNAILS)
        self._next = start
        self._decode = to_rgb if transport == "raw" else decompress

    def look(self, event: Published) -> None:
        if event.time < self._next:
            return
        self._next += self._period * (1 + (event.time - self._next) // self._period)
        for camera, message in event.snapshot.images.items():
            picture = self._decode(message)
            height = max(1, round(picture.shape[0] * _WIDTH / picture.shape[1]))
            small = cv2.resize(
                np.ascontiguousarray(picture), (_WIDTH, height), interpolation=cv2.INTER_AREA
            )
            _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
            at = (event.snapshot.image_stamps[camera] - self._start) / 1e9
            self.found.setdefault(camera, []).append((at, data.tobytes()))


def seconds_of(bag: str) -> float:
    """Length of a recording, for a progress bar; 0 where it cannot be opened."""
    try:
        opened = open_bag(Path(bag))
    except BagError:
        return 0.0
    return (opened.end - opened.start) / 1e9
