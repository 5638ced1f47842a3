"""Whether trajectories may go out: enabling, latches, the emergency stop and the deadman's beat.

Pure Python; times are seconds of a steady clock.
"""

from __future__ import annotations

import math


class Gate:
    """Closed until `enable`; whatever closes it with a latch keeps it closed until `reset`.

    Attributes:
        enabled: trajectories may be published.
        latched: why the gate stays closed until `reset`; "" if it does not.
    """

    def __init__(self, deadman_timeout: float = 0.0) -> None:
        """`deadman_timeout`: seconds that may pass between two beats; 0: none are needed."""
        self.enabled = False
        self.latched = ""
        self._deadman_timeout = deadman_timeout
        self._beat_at = -math.inf
        self._stopped = False
        self._rejections = 0

    def enable(self, now: float) -> str:
        """Open the gate; returns "", or why it stays closed."""
        refusal = self._refusal(now)
        self.enabled = not refusal
        return refusal

    def check_enable(self, now: float) -> str:
        """What `enable` would return; nothing changes."""
        return self._refusal(now)

    def _refusal(self, now: float) -> str:
        if self.latched:
            return f"latched by {self.latched}; call ~/reset first"
        if self._stopped:
            return "the emergency stop is on"
        if self._silent(now):
            return "no heartbeat of the deadman; is it held?"
        return ""

    def disable(self) -> bool:
        """Close the gate, without a latch; True if it was open."""
        was, self.enabled = self.enabled, False
        return was

    def latch(self, reason: str) -> bool:
        """Close the gate until `reset`; True if it was open. The first reason stays."""
        self.latched = self.latched or reason
        return self.disable()

    def emergency_stop(self, on: bool) -> bool:
        """The emergency stop went on or off; True if that closed the gate. Off opens nothing."""
        self._stopped = on
        return self.latch("the emergency stop") if on else False

    def beat(self, now: float) -> None:
        """The deadman's heartbeat came."""
        self._beat_at = now

    def check_deadman(self, now: float) -> bool:
        """Latch if the beat is missing while the gate is open; True if that closed it."""
        if not (self.enabled and self._silent(now)):
            return False
        silence = now - self._beat_at
        return self.latch(f"the deadman: no heartbeat for {silence:.2f} s")

    def _silent(self, now: float) -> bool:
        return self._deadman_timeout > 0 and now - self._beat_at > self._deadman_timeout

    def passed(self) -> None:
        """A chunk was within its limits."""
        self._rejections = 0

    def rejected(self, most: int, detail: str) -> bool:
        """A chunk was rejected; latches after `most` in a row. True if that closed the gate.

        Rejections of a dry run do not count: nobody's arm depends on them.
        """
        if not self.enabled:
            return False
        self._rejections += 1
        if self._rejections < most:
            return False
        return self.latch(f"{self._rejections} rejected chunks in a row, the last: {detail}")

    def reset(self) -> str:
        """Clear the latch, which opens nothing. Returns "", or what is still on."""
        if self._stopped:
            return "the emergency stop is still on; publish false on its topic first"
        self.latched = ""
        self._rejections = 0
        return ""
