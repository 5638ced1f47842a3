"""Families of episodes: each is a kind of trouble.

`draw` makes the conditions of an episode from a family and a seed: first an arm without trouble,
all of it at random, then the family's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pi0_ros.sim.versions import Parameters
from support.closed_loop.conditions import Conditions, Form, Incident

_KEEPING = Parameters(allow_trajectory_replacement=False)
_DESIRED = Parameters(interpolate_from_desired_state=True)
FORMS = (
    Form("humble"),
    Form("humble", parameters=_DESIRED),
    Form("jazzy"),
    Form("jazzy", parameters=_DESIRED),
    Form("kilted"),
    Form("6.9.0"),
    Form("6.9.0", parameters=_KEEPING),
    Form("master", parameters=_KEEPING),
)
"""Controllers that execute a trajectory at the times that it says."""
BLENDING = (Form("master", "jtc_replacing"), Form("master", "jtc_replacing", _DESIRED))
"""Controllers that do not: each replacement repeats a command, and counts from its arrival."""

Change = dict[str, Any]


def draw(family: str, seed: int) -> Conditions:
    """The conditions of an episode; the same arguments give the same."""
    rng = np.random.default_rng([sorted(FAMILIES).index(family), seed])
    joints = int(rng.integers(2, 5))
    velocity = rng.uniform(0.5, 3.0, joints)
    half = rng.uniform(0.6, 2.5, joints)
    wraps = rng.random(joints) < 0.15
    start = np.where(wraps, rng.uniform(-3, 3, joints), rng.uniform(-0.6, 0.6, joints) * half)
    rate = float(rng.choice([100, 125, 250, 500, 1000], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
    base = Conditions(
        form=FORMS[int(rng.integers(len(FORMS)))],
        rate=rate,
        jitter=float(rng.choice([0.0, 0.1])),
        lower=np.where(wraps, -np.inf, -half),
        upper=np.where(wraps, np.inf, half),
        velocity=velocity,
        acceleration=velocity * rng.uniform(3, 12, joints),
        start=start,
        wraps=wraps,
        velocity_told=bool(rng.random() < 0.7),
        state_rate=float(rng.choice([50, 100, 200], p=[0.4, 0.5, 0.1])),
        policy=str(rng.choice(["wave", "walk", "step", "edge"], p=[0.4, 0.2, 0.25, 0.15])),
        policy_rate=float(rng.choice([5, 10, 15])),
        inference=(0.02, float(rng.uniform(0.05, 0.2))),
        dt=float(rng.choice([0.02, 0.02, 1 / 30, 0.05])),
    )
    changed = replace(base, **FAMILIES[family](rng, base))
    # What the doctor says: the message's way, a period until a cycle sees it, and one that the
    # controller commands ahead.
    latest = max(changed.transport[1], 0) + abs(changed.clock_offset) + 2.3 / rate
    if not changed.free:
        changed = replace(changed, splice_lead=max(changed.splice_lead, latest))
    return changed


def _lag(rng: np.random.Generator, most: float = 0.08) -> Change:
    dead = float(rng.uniform(0, most))
    return {
        "dead_time": dead,
        "time_constant": float(rng.uniform(0, most - dead)) if rng.random() < 0.7 else 0.0,
    }


def _time(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.9, 1.8))


def _ideal(rng: np.random.Generator, base: Conditions) -> Change:
    return {}


def _lagging(rng: np.random.Generator, base: Conditions) -> Change:
    return _lag(rng)


def _delayed(rng: np.random.Generator, base: Conditions) -> Change:
    """Every message takes its time, up to 80 ms, and so does the policy."""
    return {
        "transport": (0.0, float(rng.uniform(0.01, 0.08))),
        "state_delay": (0.0, float(rng.uniform(0.01, 0.08))),
        "inference": (0.1, float(rng.uniform(0.15, 0.35))),
        "clock_offset": float(rng.uniform(-0.01, 0.01)),
        **_lag(rng, 0.04),
    }


def _late(rng: np.random.Generator, base: Conditions) -> Change:
    """Later than `splice_lead` allows for."""
    return {
        "transport": (0.0, float(rng.uniform(0.03, 0.08))),
        "free": "a trajectory that comes after its splice point",
        **_lag(rng, 0.04),
    }


def _lossy(rng: np.random.Generator, base: Conditions) -> Change:
    return {"loss": 0.1, "free": "a lost trajectory", **_lag(rng, 0.04)}


def _noisy(rng: np.random.Generator, base: Conditions) -> Change:
    return {"noise": float(rng.uniform(0.002, 0.01)), **_lag(rng)}


def _glitching(rng: np.random.Generator, base: Conditions) -> Change:
    """One or two wrong samples: of another sign, far off, or 0; a stop at that moment too."""
    times = 0.1 + 0.6 * np.arange(4) + rng.uniform(0, 0.4, 4)
    joint = int(rng.integers(len(base.start)))
    sizes = [float(rng.choice([np.nan, 0.5, -3.0, 40.0])) for _ in times]
    incidents = [
        Incident(float(time), "glitch", (joint, size, int(rng.integers(1, 3))))
        for time, size in zip(times, sizes, strict=True)
    ]
    if rng.random() < 0.5:
        incidents += _stop_and_go(float(times[2]) + float(rng.uniform(0.0, 0.03)))
    return {"incidents": tuple(incidents), **_lag(rng)}


def _wrapping(rng: np.random.Generator, base: Conditions) -> Change:
    wraps = np.ones(len(base.start), bool)
    wraps[1:] = rng.random(len(wraps) - 1) < 0.4
    at_turn = float(rng.choice([-1, 1])) * rng.uniform(3.0, np.pi, len(wraps))
    incidents = _stop_and_go(_time(rng)) if rng.random() < 0.5 else []
    return {
        "wraps": wraps,
        "lower": np.where(wraps, -np.inf, base.lower),
        "upper": np.where(wraps, np.inf, base.upper),
        "start": np.where(wraps, at_turn, np.clip(base.start, base.lower, base.upper)),
        "incidents": tuple(incidents),
        "policy": str(rng.choice(["wave", "step"])),
        "noise": float(rng.choice([0.0, 0.003])),
        **_lag(rng),
    }


def _sagging(rng: np.random.Generator, base: Conditions) -> Change:
    """Gravity: it stands beside its setpoint, which it does not tell."""
    return {"sag": float(rng.uniform(-0.02, 0.02)), **_lag(rng)}


def _saturating(rng: np.random.Generator, base: Conditions) -> Change:
    return {"top_speed": float(rng.uniform(1.0, 1.3)), **_lag(rng, 0.05)}


def _scaling(rng: np.random.Generator, base: Conditions) -> Change:
    """Live velocity_scale and acceleration_scale, and a stop."""
    incidents = [
        Incident(
            float(time),
            "scales",
            (float(10 ** rng.uniform(-1.3, 0)), float(10 ** rng.uniform(-1.3, 0))),
        )
        for time in np.sort(rng.uniform(0.3, 2.4, int(rng.integers(2, 7))))
    ]
    if rng.random() < 0.6:
        incidents += _stop_and_go(_time(rng))
    return {"incidents": tuple(incidents), **_lag(rng, 0.05)}


def _stop_and_go(at: float) -> list[Incident]:
    return [Incident(at, "emergency_stop"), Incident(at + 0.6, "reset")]


def _emergency(rng: np.random.Generator, base: Conditions) -> Change:
    """Also one that comes while the arm is being stopped already, and brakes harder."""
    noise = float(rng.choice([0.0, 0.005]))
    incidents = _stop_and_go(_time(rng))
    change: Change = {"noise": noise, **_lag(rng)}
    if rng.random() < 0.5:
        before = incidents[0].at - float(rng.uniform(0.02, 0.1))
        incidents = [Incident(before, "disable"), *incidents]
        change["emergency_acceleration_scale"] = 3.0
    return {"incidents": tuple(incidents), **change}


def _disabling(rng: np.random.Generator, base: Conditions) -> Change:
    at = _time(rng)
    back = at + float(rng.uniform(0.05, 0.8))
    return {"incidents": (Incident(at, "disable"), Incident(back, "enable")), **_lag(rng)}


def _starving(rng: np.random.Generator, base: Conditions) -> Change:
    """The policy hangs for longer than `starve_timeout`, and comes back."""
    at = _time(rng)
    return {"incidents": (Incident(at, "hang", float(rng.uniform(0.3, 1.0))),), **_lag(rng)}


def _restarting(rng: np.random.Generator, base: Conditions) -> Change:
    """Another executor takes over while the arm moves under what the last one published."""
    at = _time(rng)
    noise = float(rng.choice([0.0, 0.003]))
    again = Incident(at, "restart", float(rng.choice([0.0, 0.05, 0.5])))
    return {"incidents": (again,), "noise": noise, "seconds": 6.0, **_lag(rng)}


def _jumping_clock(rng: np.random.Generator, base: Conditions) -> Change:
    jump = float(rng.choice([-100.0, -0.5, 0.5, 100.0]))
    return {"incidents": (Incident(_time(rng), "clock", jump),), **_lag(rng, 0.05)}


def _silent_states(rng: np.random.Generator, base: Conditions) -> Change:
    """No joint states for a while, and slow ones."""
    gap = Incident(_time(rng), "no_states", float(rng.uniform(0.1, 0.6)))
    return {
        "incidents": (gap,),
        "state_rate": float(rng.choice([10, 25, 100])),
        **_lag(rng, 0.05),
    }


def _stuck(rng: np.random.Generator, base: Conditions) -> Change:
    """A joint stops following: stuck, or slow."""
    joint, share = int(rng.integers(len(base.start))), float(rng.choice([0.0, 0.0, 0.15]))
    incident = Incident(float(rng.uniform(0.0, 1.5)), "slow_down", ((joint,), share))
    latch = "may" if share else "must"
    return {"incidents": (incident,), "latch": latch, "policy": "wave", **_lag(rng)}


def _unheard(rng: np.random.Generator, base: Conditions) -> Change:
    """The controller takes nothing, from the beginning or from some time on: no joint moves.

    The commands that are judged are those of a controller that does.
    """
    at = float(rng.choice([0.0, _time(rng)]))
    incident = Incident(at, "slow_down", (tuple(range(len(base.start))), 0.0))
    return {"incidents": (incident,), "latch": "must", "policy": "wave"}


def _giving_up(rng: np.random.Generator, base: Conditions) -> Change:
    """The controller is restarted, or aborts, while it moves: it holds the measured position."""
    incident = Incident(_time(rng), "controller_restarts")
    why = "a controller that restarts while it moves"
    return {"incidents": (incident,), "free": why, **_lag(rng, 0.05)}


def _blending(rng: np.random.Generator, base: Conditions) -> Change:
    why = "allow_trajectory_replacement, with which master keeps no times"
    incidents = tuple(_stop_and_go(_time(rng))) if rng.random() < 0.5 else ()
    form = BLENDING[int(rng.integers(len(BLENDING)))]
    return {"form": form, "incidents": incidents, "free": why, **_lag(rng)}


def _robot_restarting(rng: np.random.Generator, base: Conditions) -> Change:
    """The robot goes, with its controller, and comes back at rest where it then is.

    Where its setpoint is far from where it left the arm, a fault latches. The step that is left is
    that of an arm that may as well sag.
    """
    robot = Incident(_time(rng), "robot_restarts", float(rng.uniform(0.8, 1.5)))
    more = {"seconds": 6.0, "blur_on_return": 0.03, "latch": "may"}
    return {"incidents": (robot,), **more, **_lag(rng, 0.05)}


def _everything(rng: np.random.Generator, base: Conditions) -> Change:
    return {
        "transport": (0.0, 0.02),
        "state_delay": (0.0, 0.03),
        "noise": float(rng.uniform(0, 0.005)),
        "top_speed": 1.2,
        "incidents": (
            *_scaling(rng, base)["incidents"],
            *_glitching(rng, base)["incidents"],
        ),
        **_lag(rng, 0.06),
    }


FAMILIES: dict[str, Callable[[np.random.Generator, Conditions], Change]] = {
    "ideal": _ideal,
    "arm lags by up to 80 ms": _lagging,
    "messages and chunks late": _delayed,
    "noise of 2 to 10 mrad": _noisy,
    "wrong joint states": _glitching,
    "angles that wrap": _wrapping,
    "arm saturates": _saturating,
    "arm sags by up to 20 mrad": _sagging,
    "live scales": _scaling,
    "emergency stop": _emergency,
    "disabled and enabled": _disabling,
    "policy hangs": _starving,
    "node restarts": _restarting,
    "clock jumps": _jumping_clock,
    "joint states pause": _silent_states,
    "robot restarts": _robot_restarting,
    "everything": _everything,
    "a joint is stuck or slow": _stuck,
    "controller takes nothing": _unheard,
    "controller restarts": _giving_up,
    "trajectories lost": _lossy,
    "trajectories later than splice_lead": _late,
    "master replaces trajectories": _blending,
}
"""Name -> what it changes."""
