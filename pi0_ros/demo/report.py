"""Figures of the demo: what was touched, how old and how fast the chunks were, what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pi0_ros import console
from pi0_ros.demo.record import Attempt, Record
from pi0_ros.motion.limits import JointLimits
from pi0_ros.replay.report import milliseconds, pair, reasons
from pi0_ros.ros.diagnostics import refused_since
from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points

_MANY = 0.1  # share of late ticks above which the machine is to blame, not the policy
_LATE = ("stale", "skewed", "expired", "timeout")  # reasons of refusals
_PERIOD = 10_000_000  # nanoseconds between two cycles of the controller
_TOLERANCE = 1.05
"""Times the velocity limit that a step may be: the messages' times are those of their arrival."""


@dataclass(frozen=True)
class Commands:
    """What a joint_trajectory_controller makes of the trajectories of a recording.

    Attributes:
        points: fewest and most points of a trajectory.
        step: largest step of a joint's command in a cycle, as a multiple of its velocity limit.
        joint: which one.
    """

    points: tuple[int, int]
    step: float
    joint: str

    @property
    def smooth(self) -> bool:
        """No command steps faster than the joint may move."""
        return self.step <= _TOLERANCE


def commands_of(
    arrived: Sequence[tuple[int, Points]], limits: JointLimits, version: str
) -> Commands:
    """Execute trajectories by the emulated controller, cycle by cycle.

    Args:
        arrived: nanoseconds of the robot's time, and trajectories of the joints of `limits`.
        version: of the controller.
    """
    if not arrived:
        return Commands((0, 0), 0.0, "")
    controller = Controller(limits.names, version, _PERIOD)
    waiting = list(arrived)
    begin, first = waiting[0][0] - _PERIOD, waiting[0][1]
    end = max(time + int(points.times[-1]) for time, points in waiting)
    position = first.positions[0, [first.names.index(name) for name in limits.names]]
    commands = []
    for now in range(begin, end, _PERIOD):
        while waiting and waiting[0][0] <= now:
            time, points = waiting.pop(0)
            controller.accept(points, time)
        position = controller.command(now, position, None)
        commands.append(position)
    speeds = np.abs(np.diff(commands, axis=0)).max(axis=0) / (_PERIOD / 1e9)
    shares = speeds / limits.velocity
    counts = [len(points.times) for _, points in arrived]
    worst = int(shares.argmax())
    return Commands((min(counts), max(counts)), float(shares[worst]), limits.names[worst])


def make_report(record: Record, limits: JointLimits, version: str) -> tuple[dict[str, Any], bool]:
    """The figures of a run that came to its end, with a controller of that version.

    Returns:
        Those of `--json`, which JSON_KEYS in command.py explains; whether every instruction was
        followed, and no command stepped.
    """
    last = record.counters[-1]
    inference = record.statuses.get("inference", {})
    first, end, count = record.images
    commands = commands_of(record.trajectories, limits, version)
    successes = sum(attempt.right for attempt in record.attempts)
    kept = ("instruction", "touched", "right", "seconds")
    figures = {
        "instructions": [{key: getattr(a, key) for key in kept} for a in record.attempts],
        "successes": successes,
        "chunks": len(record.chunks),
        "trajectories": last.trajectories,
        "images_hz": (count - 1) / (end - first) * 1e9 if end > first else 0.0,
        "age_ms": milliseconds(min(chunk.camera_ages) for _, chunk in record.chunks),
        "inference_ms": milliseconds(chunk.inference_time for _, chunk in record.chunks),
        "overhead_ms": {
            name: float(text) if (text := inference.get(f"overhead.{name}_ms")) else None
            for name in ("p50", "p99")
        },
        "ticks": last.ticks,
        "busy_ticks": last.busy,
        "refused": refused_since(record.counters, record.attempts[0].begun),
        "stops": int(record.statuses["limits"]["stops"]),
        "resets": record.resets,
        "commands": asdict(commands),
    }
    figures["warnings"] = _warnings(figures, commands)
    return figures, successes == len(record.attempts) and commands.smooth


def _warnings(figures: Mapping[str, Any], commands: Commands) -> list[str]:
    warnings = []
    late = figures["busy_ticks"] + sum(figures["refused"].get(reason, 0) for reason in _LATE)
    if late > _MANY * figures["ticks"]:
        warnings.append(
            f"{late} of {figures['ticks']} ticks found the policy busy or images old: this machine"
            " is too slow or busy with other things; a smaller --speed gives it more time"
        )
    if figures["stops"]:
        warnings.append(f"stops of the arm because no chunk came: {figures['stops']}")
    if not commands.smooth:
        warnings.append(
            f"the command of joint {commands.joint} steps by {commands.step:.2f}"
            " times its velocity limit in one cycle of the controller"
        )
    return warnings


def format_report(figures: Mapping[str, Any], attempts: Sequence[Attempt]) -> str:
    points, step = figures["commands"]["points"], figures["commands"]["step"]
    rows = [
        *((attempt.instruction, attempt.verdict) for attempt in attempts),
        ("right", f"{figures['successes']} of {len(attempts)}"),
        ("chunks; trajectories", f"{figures['chunks']}; {figures['trajectories']}"),
        ("points of a trajectory", "-".join(str(n) for n in sorted(set(points)))),
        ("largest command step, of the velocity limit", f"{step:.2f} times"),
        ("images of each camera", f"{figures['images_hz']:.1f} per second"),
        ("age of the newest image at publication, p50 / p95", pair(figures["age_ms"])),
        ("inference time, p50 / p95", pair(figures["inference_ms"])),
        ("overhead of the node, p50 / p99", pair(figures["overhead_ms"])),
        ("ticks that found the policy busy", f"{figures['busy_ticks']} of {figures['ticks']}"),
        ("observations refused since the first instruction", reasons(figures["refused"])),
    ]
    return "\n".join([console.table(rows), *(f"warning: {text}" for text in figures["warnings"])])
