"""Motion enable: enabling, latched faults, the emergency stop and the deadman's heartbeat.

Pure Python; times are seconds of a steady clock.
"""

from __future__ import annotations

import math


class MotionEnable:
    """Disabled until `enable`; a latched fault keeps it disabled until `reset`.

    Attributes:
        enabled: trajectories may be published.
        latched: the fault that keeps motion disabled until `reset`; "" if there is none.
        cause: why motion was disabled last.
    """

    def __init__(self, deadman_timeout: float = 0.0) -> None:
        """`deadman_timeout`: seconds that may pass between two heartbeats; 0: none are needed."""
        self.enabled = False
        self.latched = ""
        self.cause = "not enabled yet"
        self._deadman_timeout = deadman_timeout
        self._heartbeat_at, self._refused_heartbeat = -math.inf, ""
        self._emergency_stop = False

    def enable(self, now: float) -> str:
        """Enable motion; returns "", or why it stays disabled."""
        problem = self.check(now)
        self.enabled = not problem
        return problem

    def check(self, now: float) -> str:
        """What `enable` would return; nothing changes."""
        if self.latched:
            return f"latched by {self.latched}; call ~/reset first"
        if self._emergency_stop:
            return "the emergency stop is on"
        if self._is_silent(now):
            return f"no heartbeat of the deadman; is it held?{self._refused_heartbeat}"
        return ""

    def disable(self, cause: str) -> bool:
        """Disable motion, without a latch; True if it was enabled."""
        was, self.enabled = self.enabled, False
        if was:
            self.cause = cause
        return was

    def latch(self, fault: str) -> bool:
        """Disable motion until `reset`; True if it was enabled. The first fault stays."""
        self.latched = self.latched or fault
        return self.disable(fault)

    def emergency_stop(self, on: bool) -> bool:
        """The emergency stop went on or off; True if that disabled motion. Off enables nothing."""
        self._emergency_stop = on
        return self.latch("the emergency stop") if on else False

    def heartbeat(self, now: float) -> None:
        """The deadman's heartbeat came."""
        self._heartbeat_at, self._refused_heartbeat = now, ""

    def refuse_heartbeat(self, why: str) -> None:
        """A heartbeat came that does not show that the deadman is held now."""
        self._refused_heartbeat = f" (the last one was refused: {why})"

    def check_deadman(self, now: float) -> bool:
        """Latch if the heartbeat is missing while motion is enabled; True if that disabled it."""
        if not (self.enabled and self._is_silent(now)):
            return False
        silence = now - self._heartbeat_at
        return self.latch(f"the deadman: no heartbeat for {silence:.2f} s{self._refused_heartbeat}")

    def _is_silent(self, now: float) -> bool:
        return self._deadman_timeout > 0 and now - self._heartbeat_at > self._deadman_timeout

    def reset(self) -> str:
        """Clear the latched fault, which enables nothing. Returns "", or what is still on."""
        if self._emergency_stop:
            return "the emergency stop is still on; publish false on its topic first"
        self.latched = ""
        return ""
