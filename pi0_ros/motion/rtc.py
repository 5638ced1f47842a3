"""Real-time chunking: what the next chunk is to agree with; pure: no ROS, no node, no clock.

That is the trajectory that was sent, and it counts fully for as many steps as are executed until
the chunk is spliced in. Their number, the delay, is measured: steps between the observation and the
splice point of earlier chunks. See `pi0_ros.model.rtc` for what a model makes of it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk, ActionPrefix

MODES = ("off", "guided", "trained")
"""As pi0_ros/msg/ActionChunk numbers them."""

SCHEDULES = ("exp", "linear", "ones", "zeros")

WINDOW = 50
"""Newest delays that count."""

WARM_UP = 1
"""Chunks of an activation whose delay does not count: caches are cold."""

_QUANTILE = 95  # percent of the delays of the window that are within the one reckoned with
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class RtcSettings:
    """The node's parameters of the same names.

    Attributes:
        rtc: "off", "guided" or "trained".
        rtc_execution_horizon: steps of a chunk after which the executing trajectory no longer
            counts, at least twice the delay; 0: its end.
        rtc_max_guidance_weight: see `ActionPrefix.max_weight`.
        rtc_schedule: how its weight falls after the delay; see `prefix_weights`.
    """

    rtc: str
    rtc_execution_horizon: int
    rtc_max_guidance_weight: float
    rtc_schedule: str

    @classmethod
    def of(cls, source: Any) -> RtcSettings:
        """The attributes of the same names of another object, such as the node's parameters."""
        return cls(**{item.name: getattr(source, item.name) for item in fields(cls)})


@dataclass(frozen=True)
class Agreement:
    """How a chunk is made to agree with its predecessor.

    Attributes:
        rtc: "guided" or "trained"; "off" where it is not.
        fallback: why it is not although it is asked for, in a sentence; otherwise "".
        prefix: what the policy is given; None with "off".
    """

    rtc: str = "off"
    fallback: str = ""
    prefix: ActionPrefix | None = None


NO_AGREEMENT = Agreement()


@dataclass
class RtcCounts:
    """What happened since the node began.

    Attributes:
        delays: steps from observation to splice point -> executed chunks.
        used: chunks that were given a prefix.
        fallbacks: cause -> chunks that were given none although one was asked for.
    """

    delays: Counter[int] = field(default_factory=Counter)
    used: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)


class RealTimeChunking:
    """Prefixes from the executing trajectory, and the delays that decide them.

    The caller asks `prepare` before each inference, tells `executed` of each chunk that was sent,
    and calls `drop` when the executing trajectory is no longer what the policy wanted.
    """

    def __init__(self, settings: RtcSettings, counts: RtcCounts | None = None) -> None:
        """At the beginning of an activation. `settings` may be replaced at any time."""
        self.settings = settings
        self.counts = RtcCounts() if counts is None else counts
        self._delays: deque[int] = deque(maxlen=WINDOW)
        self._warm_up = WARM_UP
        self._instruction = ""
        self.drop("first")

    @property
    def delay(self) -> int | None:
        """Steps that are reckoned with; None: none was measured yet."""
        if not self._delays:
            return None
        return int(np.percentile(list(self._delays), _QUANTILE, method="higher"))

    def drop(self, cause: str) -> None:
        """No chunk agrees with what executes now, until another chunk was sent.

        Args:
            cause: a key of the sentences in this module: first, episode, stop, clock.
        """
        self._dropped = cause

    def outdated(self, agreement: Agreement) -> bool:
        """Whether what a chunk agrees with was dropped since `prepare`."""
        return agreement.prefix is not None and bool(self._dropped)

    def executed(self, chunk: ActionChunk, splice_at: int, instruction: str) -> None:
        """A chunk was sent; it is spliced in at `splice_at` (nanoseconds of the node's clock)."""
        delay = max(0, (splice_at - chunk.stamp) // round(chunk.dt * _SECOND))
        self.counts.delays[delay] += 1
        if self._warm_up:
            self._warm_up -= 1
        else:
            self._delays.append(delay)
        self._dropped, self._instruction = "", instruction

    def prepare(
        self,
        executing: Motion | None,
        stamp: int,
        instruction: str,
        dt: float,
        policy: Any,
    ) -> Agreement:
        """What the chunk of an observation is to agree with.

        Args:
            executing: `Executor.executing`.
            stamp: the observation's time, nanoseconds.
            dt: seconds between two steps of a chunk.
            policy: has their number, `horizon`, and perhaps `rtc_max_delay`, the most of them that
                it was trained to be given.
        """
        mode = self.settings.rtc
        if mode == "off":
            return NO_AGREEMENT
        horizon, most = policy.horizon, getattr(policy, "rtc_max_delay", 0)
        most = min(most, horizon - 1) if mode == "trained" else horizon - 1
        due = stamp + round(dt * _SECOND) * np.arange(1, horizon + 1, dtype=np.int64)
        left = 0 if executing is None else int(np.searchsorted(due, executing.end, "right"))
        delay = self.delay
        if self._dropped:
            cause = self._dropped
        elif instruction != self._instruction:
            cause = "instruction"
        elif executing is None or not left:
            cause = "ended"
        elif delay is None:
            cause = "unmeasured"
        elif delay > most:
            cause = "late"
        else:
            self.counts.used += 1
            settings = self.settings
            # What will have been executed is to be followed, and let go of gradually: where the
            # weights fall at once, the chunk itself has a step there.
            asked = settings.rtc_execution_horizon
            end = min(max(asked, 2 * delay) if asked else horizon, left)
            weights = prefix_weights(settings.rtc_schedule, delay, end, horizon)
            positions = executing.sample_all(due)[0].astype(np.float32)
            limit = settings.rtc_max_guidance_weight
            return Agreement(mode, prefix=ActionPrefix(positions, weights, delay, limit))
        self.counts.fallbacks[cause] += 1
        return Agreement(fallback=_SENTENCES[cause].format(delay=delay, most=most))


_SENTENCES = {
    "first": "no chunk was executed since the activation",
    "episode": "an episode began, and no chunk of it was executed yet",
    "stop": "the arm was stopped, and no chunk was executed since",
    "clock": "the clock jumped, and no chunk was executed since",
    "instruction": "the executing trajectory is of another instruction",
    "ended": "the executing trajectory ends before the first step of the chunk",
    "unmeasured": "no delay was measured yet",
    "late": "the delay is {delay} steps, and this policy can be given at most {most}",
}


def prefix_weights(schedule: str, delay: int, end: int, horizon: int) -> np.ndarray:
    """[horizon] float32: how much each step of the executing trajectory counts.

    1 for the first `delay` steps, 0 from `end` on. Between them: "linear", a straight line; "exp",
    l (e^l - 1) / (e - 1) of that line l (Black et al. 2025); "ones"; "zeros". As LeRobot has them.

    Args:
        end: a smaller one than the delay cuts that, too.
    """
    weights = np.zeros(horizon)
    delay, end = min(delay, end, horizon), min(end, horizon)
    line = np.linspace(1, 0, end - delay + 2)[1:-1]
    between = {
        "linear": line,
        "exp": line * np.expm1(line) / np.expm1(1),
        "ones": np.ones_like(line),
        "zeros": np.zeros_like(line),
    }
    weights[:delay], weights[delay:end] = 1, between[schedule]
    return weights.astype(np.float32)
