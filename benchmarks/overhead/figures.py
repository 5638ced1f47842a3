"""From the reports of the node and the robot to the figures of a run: counting only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from pi0_ros import console
from pi0_ros.errors import UserError

OVERHEAD_LIMIT = 5e-3
"""Seconds that the 99th percentile of the overhead may take."""

STOP_LIMIT = 20e-3
"""Seconds that the 99th percentile from an emergency stop to the stopping trajectory may take."""

_NOT_OF_THE_POLICY = ("image_age", "inference", "overhead", "link")
_EARLY = 0.1  # periods by which a tick may come before its time


CAMERA_HZ, JOINT_HZ = 30.0, 100.0
"""Messages per second that the robot publishes of each camera, and of the joint states."""


WHERE = {
    "node": "in the node",
    "process": "process of its own",
    "server": "on a server over the loopback",
}


class OverheadError(UserError, RuntimeError):
    """Too little came for figures."""


@dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes:
        width, height: of the images, pixels.
        policy: where it runs, a key of `WHERE`.
        rate_hz: ticks per second that the node is asked for.
    """

    width: int
    height: int
    policy: str
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, policy {WHERE[self.policy]}"


@dataclass(frozen=True)
class Chunk:
    """What came of a tick, in seconds.

    Attributes:
        done: monotonic, when the chunk was out.
        overhead: tick to published trajectory, less `inference`.
        inference: decoding, the policy, and the transfer to its process and back.
        policy: the policy's own stages.
    """

    done: float
    overhead: float
    inference: float
    policy: float

    @property
    def added(self) -> float:
        """Tick to published trajectory, less the policy's own time."""
        return self.overhead + self.inference - self.policy


@dataclass(frozen=True)
class Tick:
    """A tick that began an inference.

    Attributes:
        at: monotonic seconds.
        image_age: seconds from the newest image's stamp to the tick.
        chunk: None if none was published.
    """

    at: float
    image_age: float
    chunk: Chunk | None = None


@dataclass(frozen=True)
class Refused:
    """Ticks that /diagnostics calls refused: reason -> how many so far, at a monotonic time."""

    at: float
    counts: Counter[str]


def read_ticks(lines: Iterable[str]) -> list[Tick]:
    """What `benchmarks.overhead.node` wrote; a last line that is not whole is left out.

    One inference runs at a time: "image_age" is written at its tick, and then, if a chunk came of
    it, the policy's stages, "inference" and "overhead".
    """
    ticks: list[Tick] = []
    stages: dict[str, float] = {}
    for line in lines:
        if not line.endswith("\n"):
            break
        at, stage, seconds = line.split()
        if stage == "image_age":
            ticks.append(Tick(float(at), float(seconds)))
            stages = {}
            continue
        stages[stage] = float(seconds)
        if stage == "overhead":
            policy = sum(value for name, value in stages.items() if name not in _NOT_OF_THE_POLICY)
            chunk = Chunk(float(at), stages["overhead"], stages["inference"], policy)
            ticks[-1] = replace(ticks[-1], chunk=chunk)
    return ticks


def read_rates(lines: Iterable[str], begin: float, end: float) -> dict[str, float]:
    """Topic -> messages per second that the robot got out between two monotonic times.

    Raises:
        OverheadError: fewer than two reports lie between them.
    """
    reports = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
    reports = [report for report in reports if begin <= report["at"] <= end]
    if len(reports) < 2:
        raise OverheadError(
            f"the robot reported {len(reports)} times; at least 2 reports are needed"
        )
    first, last = reports[0], reports[-1]
    seconds = last["at"] - first["at"]
    return {topic: (sent - first["sent"][topic]) / seconds for topic, sent in last["sent"].items()}


@dataclass(frozen=True)
class Lost:
    """Ticks without a chunk.

    Attributes:
        due: ticks that should have been, lost or not.
        missed: left out by the timer.
        busy: came while the last inference ran.
        refused: came, and were refused.
    """

    due: int
    missed: int
    busy: int
    refused: int

    @property
    def all(self) -> int:
        """Of any kind."""
        return self.missed + self.busy + self.refused


def count_lost(ticks: Sequence[Tick], rate_hz: float, refused: int) -> Lost:
    """What became of the ticks from the first one to before the last one.

    A timer keeps its grid: ticks that began no inference lie a period apart between those that did.

    Args:
        refused: how many the node reports as refused meanwhile; those that it refused on the spot
            look like missed ones.
    """
    due = round((ticks[-1].at - ticks[0].at) * rate_hz)
    busy = on_the_spot = 0
    fruitless = sum(tick.chunk is None for tick in ticks[:-1])
    for tick, then in pairwise(ticks):
        done = then.at if tick.chunk is None else tick.chunk.done
        for k in range(1, round((then.at - tick.at) * rate_hz)):
            if tick.at + (k - _EARLY) / rate_hz < done:
                busy += 1
            else:
                on_the_spot += 1
    missed = max(0, on_the_spot - max(0, refused - fruitless))
    return Lost(due, missed, busy, fruitless + on_the_spot - missed)


@dataclass(frozen=True)
class Figures:
    """What a run showed; milliseconds are percentiles by name.

    Attributes:
        seconds: that were measured, after warming up: from one tick to another.
        tick_hz: ticks per second that there were.
        lost: ticks without a chunk.
        refused: reason -> ticks, as of /diagnostics, up to a second earlier or later.
        trajectories: that arrived at the robot.
        overhead_ms: tick to published trajectory, less the policy's own time: what the node adds.
        transfer_ms: of it decoding, and the transfer to the policy's process and back;
            /diagnostics counts that as inference.
        inference_ms: the policy's own time.
        image_age_ms: of the newest image at the tick, since its stamp.
        robot_hz: topic -> messages per second that the robot sent.
        node_cpu, policy_cpu: of one core, 1 is all of it; the policy's own process, if any.
        stops: emergency stops.
        stop_ms: from the message to the arrival of the stopping trajectory; None without stops.
    """

    case: Case
    seconds: float
    tick_hz: float
    lost: Lost
    refused: Mapping[str, int]
    trajectories: int
    overhead_ms: Mapping[str, float]
    transfer_ms: Mapping[str, float]
    inference_ms: Mapping[str, float]
    image_age_ms: Mapping[str, float]
    robot_hz: Mapping[str, float]
    node_cpu: float
    policy_cpu: float | None
    stops: int = 0
    stop_ms: Mapping[str, float] | None = None

    @property
    def met(self) -> bool:
        """Whether no tick was lost, and overhead and stops keep their limits."""
        stops = self.stop_ms is None or self.stop_ms["p99"] <= STOP_LIMIT * 1e3
        return stops and self.lost.all == 0 and self.overhead_ms["p99"] <= OVERHEAD_LIMIT * 1e3

    def to_json(self) -> dict[str, Any]:
        """JSON values, `met` among them."""
        values = asdict(self)
        return {**values.pop("case"), **values, "met": self.met}


def figures(
    case: Case,
    begin: float,
    end: float,
    ticks: Sequence[Tick],
    refused: Sequence[Refused],
    *,
    trajectories: Sequence[float],
    robot_hz: Mapping[str, float],
    node_cpu: float,
    policy_cpu: float | None,
    stops: Sequence[float] = (),
) -> Figures:
    """The figures from the first tick after `begin` to before the first one after `end`.

    Args:
        begin, end: monotonic seconds.
        trajectories: monotonic seconds at which they arrived.
        stops: seconds from an emergency stop to the stopping trajectory.

    Raises:
        OverheadError: there is no such tick, or no chunk came between them.
    """
    after = [tick for tick in ticks if tick.at >= begin]
    count = sum(tick.at < end for tick in after)
    chunks = [tick.chunk for tick in after[:count] if tick.chunk is not None]
    if not chunks or count == len(after):
        raise OverheadError(
            f"{case}: {count} inferences began in {end - begin:.1f} s, {len(chunks)} of them led to"
            " a chunk; at least one, and one tick after that, are needed for figures"
        )
    after = after[: count + 1]
    begin, end = after[0].at, after[-1].at
    reasons = _until(refused, end) - _until(refused, begin)
    lost = count_lost(after, case.rate_hz, reasons.total())
    return Figures(
        case,
        seconds=end - begin,
        tick_hz=(lost.due - lost.missed) / (end - begin),
        lost=lost,
        refused=dict(reasons),
        trajectories=sum(begin <= at < end for at in trajectories),
        overhead_ms=percentiles([chunk.added for chunk in chunks]),
        transfer_ms=percentiles([chunk.inference - chunk.policy for chunk in chunks]),
        inference_ms=percentiles([chunk.policy for chunk in chunks]),
        image_age_ms=percentiles([tick.image_age for tick in after[:-1]]),
        robot_hz=robot_hz,
        node_cpu=node_cpu,
        policy_cpu=policy_cpu,
        stops=len(stops),
        stop_ms=percentiles(stops) if stops else None,
    )


def _until(refused: Sequence[Refused], time: float) -> Counter[str]:
    """The counts of the first report after a time, or of the last one."""
    after = [report.counts for report in refused if report.at >= time]
    return after[0] if after else refused[-1].counts if refused else Counter()


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p95, p99 in milliseconds."""
    return console.percentiles((1e3 * value for value in seconds), (50, 95, 99))
