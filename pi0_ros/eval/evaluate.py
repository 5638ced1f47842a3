"""One recording evaluated: what the policy predicts at each observation against what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pi0_ros.bags.bag import BagError, Message
from pi0_ros.bags.chunks import REJECTED
from pi0_ros.bags.images import thumbnail
from pi0_ros.errors import UserError
from pi0_ros.eval.figures import Sums, sums_of
from pi0_ros.eval.truth import read_truth
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.interface import read_interface
from pi0_ros.node.preflight import units_of
from pi0_ros.replay.case import check_case, load, open_case
from pi0_ros.replay.steps import Published, SeededPolicy, Steps
from pi0_ros.ros.diagnostics import refused_since

THUMBNAILS = 8
"""Images of each camera on the page."""

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
        drawn: keep what a page shows.
        episode: of a LeRobot data set; None: `bag` is a bag.
    """

    bag: str
    name: str
    ros_args: tuple[str, ...]
    remaps: tuple[tuple[str, str], ...] = ()
    target: str = ""
    threads: int = 1
    drawn: bool = False
    episode: int | None = None


@dataclass(frozen=True)
class Drawn:
    """What a page shows of a recording; seconds count from its first message.

    Attributes:
        stamps: [n] seconds of the observations, at most some 150 of them.
        predicted: [n, h, j] rad.
        times, recorded: [k] seconds and [k, j] rad.
        thumbnails: camera -> (seconds, JPEG).
    """

    stamps: np.ndarray
    predicted: np.ndarray
    times: np.ndarray
    recorded: np.ndarray
    thumbnails: Mapping[str, list[tuple[float, bytes]]]


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
    units: tuple[str, ...] = ()
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

    policy = load(read_interface(ros_args).parameters)
    torch.set_num_threads(threads)
    return policy


def evaluate(job: Job, on_time: Callable[[float], None] = lambda seconds: None) -> Evaluated:
    """Evaluates a recording; what is wrong with it is part of the result.

    Args:
        on_time: gets the seconds of the recording that are done.
    """
    try:
        return _evaluate(job, on_time)
    except (UserError, OSError) as error:
        return Evaluated(job.name, problem=str(error))


def _evaluate(job: Job, on_time: Callable[[float], None]) -> Evaluated:
    case = open_case(job.bag, job.ros_args, dict(job.remaps), job.episode)
    check_case(case)
    parameters, joints, bag = case.parameters, case.parameters.joint_names, case.bag
    truth = read_truth(bag, case.joint_states, job.target, joints)
    steps = Steps(case.interface, case.topics, policy_of(job.ros_args, job.threads))
    album = _Album(bag.start, bag.end, parameters.image_transport) if job.drawn else None
    published: list[Published] = []

    def messages() -> Iterator[Message]:
        for message in bag.messages(case.types):
            on_time((message.time - bag.start) / 1e9)
            yield message

    for event in steps.run(messages()):
        if isinstance(event, Published) and event.verdict != REJECTED:
            if album is not None:
                album.add(event)
            # A recording's images do not fit into memory.
            published.append(replace(event, snapshot=replace(event.snapshot, images={})))
    if not published:
        reasons = [f"{reason} ({text})" for reason, (_, text) in steps.first_refused.items()]
        raise BagError(f"{job.bag}: no chunk came; refused: {'; '.join(reasons) or 'nothing'}")
    stamps = np.array([p.chunk.stamp for p in published], np.int64)
    predicted = np.array([p.chunk.positions for p in published], np.float64)
    dt = parameters.action_dt
    ahead = np.round((np.arange(predicted.shape[1]) + 1) * dt * 1e9).astype(np.int64)
    recorded = truth.at((stamps[:, None] + ahead).ravel()).reshape(predicted.shape)
    if not np.isfinite(recorded).any():
        raise BagError(f"{job.bag}: {truth.source} has nothing at the times after the observations")
    state = np.array([p.snapshot.state for p in published])
    counters, playback = steps.counters, steps.playback
    drawn = None
    if album is not None:
        chosen = np.linspace(0, len(stamps) - 1, _DRAWN_CHUNKS).round().astype(int)
        chosen = np.unique(chosen)
        times = np.linspace(0, playback.end - playback.start, _DRAWN_POINTS).astype(np.int64)
        drawn = Drawn(
            stamps=(stamps[chosen] - playback.start) / 1e9,
            predicted=predicted[chosen],
            times=times / 1e9,
            recorded=truth.at(playback.start + times),
            thumbnails=album.thumbnails,
        )
    return Evaluated(
        bag=job.name,
        duration=playback.duration,
        source=truth.source,
        joints=joints,
        units=units_of(parameters),
        dt=dt,
        instructions=tuple(dict.fromkeys(p.snapshot.instruction for p in published)),
        refused=counters[-1].refused,
        refused_later=refused_since(counters, playback.start + 1_000_000_000),
        sums=sums_of(predicted, recorded, state, stamps, dt),
        seconds=tuple(p.seconds for p in published),
        drawn=drawn,
    )


class _Album:
    """Small images of every camera, evenly along time."""

    def __init__(self, start: int, end: int, transport: str) -> None:
        self.thumbnails: dict[str, list[tuple[float, bytes]]] = {}
        self._start, self._period = start, max(1, (end - start) // THUMBNAILS)
        self._next = start
        self._to_rgb = to_rgb if transport == "raw" else decompress

    def add(self, event: Published) -> None:
        """The images of an observation, if it is time for some."""
        if event.time < self._next:
            return
        self._next += self._period * (1 + (event.time - self._next) // self._period)
        for camera, message in event.snapshot.images.items():
            at = (event.snapshot.image_stamps[camera] - self._start) / 1e9
            jpeg = thumbnail(self._to_rgb(message), _WIDTH, 80)
            self.thumbnails.setdefault(camera, []).append((at, jpeg))
