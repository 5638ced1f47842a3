"""Reports that the tests of diagnostics are about."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pi0_ros.node.diagnostics import Report
from pi0_ros.node.progress import Counts


def stream(name: str, **changes: Any) -> SimpleNamespace:
    fine = {
        "name": name,
        "topic": f"/{name}",
        "received": 30,
        "rate": 29.97,
        "age": 0.0123,
        "dropped": {},
        "detail": "",
        "level": "ok",
    }
    return SimpleNamespace(**(fine | changes))


def output(name: str, **changes: Any) -> SimpleNamespace:
    fine = {
        "name": name,
        "topic": f"/{name}_controller/joint_trajectory",
        "type": "trajectory_msgs/JointTrajectory",
        "joints": ("pan", "lift"),
        "subscribers": 1,
        "sent": 12,
        "late": None,
        "delay": None,
    }
    return SimpleNamespace(**(fine | changes))


def report(**changes: Any) -> Report:
    """Of an active and enabled node that is well."""
    fine = Report(
        node="pi0",
        state="active",
        counts=Counts(ticks=7, busy=1, chunks=4, trajectories=3, refused=Counter(stale=2)),
        ok=True,
        summary="publishing",
        streams=[stream("camera front"), stream("joint states"), stream("instruction")],
        outputs=[output("arm")],
        timings={
            "model": {"p50": 0.04, "p95": 0.05, "p99": 0.06},
            "inference": {"p50": 0.0412, "p95": 0.05, "p99": 0.0634},
        },
        period=0.1,
        queue=0,
        running_for=None,
        enabled=True,
        latched="",
        limits_loaded=True,
        memory={"process_rss": 312_400_000},
    )
    return replace(fine, **changes)
