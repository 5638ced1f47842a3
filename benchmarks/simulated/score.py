"""Figures of many episodes: success, smoothness of the commands, and the counters of the node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.simulated.rollout import PERIOD, Episode
from benchmarks.simulated.succession import changes
from pi0_ros import console


@dataclass(frozen=True)
class Score:
    """The figures; their names are the keys of `--json`.

    Attributes:
        scenes: how many.
        success_rate: share of them in which the first object touched satisfies the instruction.
        wrong_first: scenes in which another object was touched first.
        untouched: scenes in which none was touched in time.
        failed_seeds: of the scenes that were no success.
        touch_s: simulated seconds to the touch, where it was the right one.
        fastest_rad_s: largest step of a command between two cycles, over their period.
        boundary_step_rad: by how much the commanded position steps at the splice of a new
            trajectory, of the joint that steps most.
        boundary_step_rad_s: the same of the commanded velocity.
        jerk: root mean square of the commands' third difference over time, rad/s^3.
        changes_of_mind: chunks that head for another object than the chunk before.
        successors: chunks that had one before them; 0 where that is not observed.
        chunk_step_rad: by how much a chunk as inferred differs from the one before, at its arrival.
        rtc_used: inferences that were given what executes (real-time chunking).
        rtc_fallbacks: cause -> inferences that were not, although the parameter `rtc` asks for it.
        chunks: inferences made.
        trajectories: trajectories that the controller took, stops apart.
        stops: trajectories that stopped the arm because no chunk came.
        recoveries: trajectories of a chunk that followed one of those; 0 over DDS.
        ticks, busy_ticks: ticks, and those that found the previous inference not done.
        refused: reason -> chunks not published.
        rejected: trajectories that the controller did not take.
        clamped: limit -> chunks clamped to it.
        latched: scenes in which the node gave up.
        latency_ms: wall time of an inference, which depends on the machine.
    """

    scenes: int
    success_rate: float
    wrong_first: int
    untouched: int
    failed_seeds: tuple[int, ...]
    touch_s: Mapping[str, float | None]
    fastest_rad_s: float
    boundary_step_rad: Mapping[str, float | None]
    boundary_step_rad_s: Mapping[str, float | None]
    jerk: float | None
    changes_of_mind: int
    successors: int
    chunk_step_rad: Mapping[str, float | None]
    rtc_used: int
    rtc_fallbacks: Mapping[str, int]
    chunks: int
    trajectories: int
    stops: int
    recoveries: int
    ticks: int
    busy_ticks: int
    refused: Mapping[str, int]
    rejected: int
    clamped: Mapping[str, int]
    latched: int
    latency_ms: Mapping[str, float | None]

    def document(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def score(episodes: Sequence[Episode]) -> Score:
    """The figures of at least one episode.

    Raises:
        ValueError: there is none.
    """
    if not episodes:
        raise ValueError("no episodes: there is nothing to judge")
    right = [e for e in episodes if e.success]
    steps = [boundary_steps(e.start, e.commands, e.boundaries) for e in episodes]
    refused: Counter[str] = Counter()
    clamped: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    for episode in episodes:
        fallbacks.update(episode.rtc_fallbacks)
        refused.update(episode.refused)
        clamped.update(episode.clamped)
    return Score(
        scenes=len(episodes),
        success_rate=len(right) / len(episodes),
        wrong_first=sum(e.touched is not None and not e.success for e in episodes),
        untouched=sum(e.touched is None for e in episodes),
        failed_seeds=tuple(e.seed for e in episodes if not e.success),
        touch_s=_spread(e.seconds for e in right),
        fastest_rad_s=max(_fastest(e.start, e.commands) for e in episodes),
        boundary_step_rad=_spread(np.concatenate([position for position, _ in steps])),
        boundary_step_rad_s=_spread(np.concatenate([velocity for _, velocity in steps])),
        jerk=jerk([e.commands for e in episodes]),
        changes_of_mind=sum(changes(e.aims) for e in episodes),
        successors=sum(max(len(e.aims) - 1, 0) for e in episodes),
        chunk_step_rad=_spread(s for e in episodes for s in e.chunk_steps),
        rtc_used=sum(e.rtc_used for e in episodes),
        rtc_fallbacks=dict(sorted(fallbacks.items())),
        chunks=sum(len(e.inference) for e in episodes),
        trajectories=sum(e.published for e in episodes),
        stops=sum(e.stops for e in episodes),
        recoveries=sum(e.recoveries for e in episodes),
        ticks=sum(e.ticks for e in episodes),
        busy_ticks=sum(e.busy for e in episodes),
        refused=dict(sorted(refused.items())),
        rejected=sum(e.rejected for e in episodes),
        clamped=dict(sorted(clamped.items())),
        latched=sum(e.latched for e in episodes),
        latency_ms=_spread(1e3 * s for e in episodes for s in e.inference),
    )


def _spread(values: Iterable[float]) -> dict[str, float | None]:
    """Median, 95th percentile and largest."""
    return console.percentiles(values, largest=True)


def boundary_steps(
    start: np.ndarray, commands: np.ndarray, boundaries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far two straight lines are apart that continue the commands before and after a boundary.

    Each goes through the two commands on its side; they are compared in the middle between them, so
    that steady motion has no step, and even acceleration none in position.

    Args:
        start: [joints] radians, commanded before the first command.
        commands: [n, joints] radians, PERIOD apart; each holds until the next.
        boundaries: [m] seconds since the first command; those after the last but one are left out.

    Returns:
        Steps in position, radians, and in velocity, radians per second; [m] each, of the joint
        that steps most.
    """
    path = np.concatenate([np.repeat(start[None], 2, axis=0), commands])
    first = 2 + np.ceil(np.asarray(boundaries) / PERIOD - 1e-6).astype(int)  # after the boundary
    first = first[first + 1 < len(path)]
    before = (path[first - 1] - path[first - 2]) / PERIOD
    after = (path[first + 1] - path[first]) / PERIOD
    gap = path[first] - path[first - 1] - PERIOD / 2 * (before + after)
    return np.abs(gap).max(axis=1), np.abs(after - before).max(axis=1)


def _fastest(start: np.ndarray, commands: np.ndarray) -> float:
    path = np.concatenate([start[None], commands])
    return float(np.abs(np.diff(path, axis=0)).max(initial=0.0)) / PERIOD


def jerk(paths: Sequence[np.ndarray]) -> float | None:
    """Root mean square over joints and time, rad/s^3; None where all paths are too short.

    Args:
        paths: commands [n, joints] radians each, PERIOD apart.
    """
    thirds = np.concatenate([np.diff(path, n=3, axis=0).ravel() for path in paths])
    return float(np.sqrt(np.mean(thirds**2))) / PERIOD**3 if thirds.size else None


def table(figures: Score) -> str:
    """The figures to print, a line each."""

    def spread(values: Mapping[str, float | None], digits: int) -> str:
        if values["p50"] is None:
            return "none"
        return " / ".join(f"{value:.{digits}f}" for value in values.values())

    def counts(of: Mapping[str, int]) -> str:
        named = ", ".join(f"{name} {count}" for name, count in of.items())
        return f"{sum(of.values())} ({named})" if named else "0"

    f = figures
    velocity_step = spread(f.boundary_step_rad_s, 3)
    rows = (
        ("a right object touched first", f"{f.success_rate:.1%} of {f.scenes} scenes"),
        ("a wrong object first; none", f"{f.wrong_first}; {f.untouched}"),
        ("time to touch, p50 / p95 / max", f"{spread(f.touch_s, 2)} s"),
        ("fastest step of a command in a cycle", f"{f.fastest_rad_s:.2f} rad/s"),
        ("position step at the splice, p50 / p95 / max", f"{spread(f.boundary_step_rad, 4)} rad"),
        (
            "velocity step at the splice, p50 / p95 / max",
            f"{velocity_step} rad/s",
        ),
        ("jerk of the commands, RMS", "none" if f.jerk is None else f"{f.jerk:.0f} rad/s^3"),
        ("changes of mind", f"{f.changes_of_mind} of {f.successors} chunks"),
        ("step between chunks, p50 / p95 / max", f"{spread(f.chunk_step_rad, 3)} rad"),
        ("chunks given what executes; not given", f"{f.rtc_used}; {counts(f.rtc_fallbacks)}"),
        ("chunks; trajectories executed", f"{f.chunks}; {f.trajectories}"),
        ("ticks that found the policy busy", f"{f.busy_ticks} of {f.ticks}"),
        ("chunks rejected by the executor", counts(f.refused)),
        ("chunks clamped", counts(f.clamped)),
        ("trajectories rejected by the controller", str(f.rejected)),
        ("stops because no chunk came; recoveries", f"{f.stops}; {f.recoveries}"),
        ("scenes given up", str(f.latched)),
        ("inference, wall time, p50 / p95 / max", f"{spread(f.latency_ms, 1)} ms"),
    )
    return console.table(rows)
