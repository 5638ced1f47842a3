"""MuJoCo's viewer beside the simulation, where there is a display."""

from __future__ import annotations

import os
import sys
import time
import warnings

from pi0_ros.errors import UserError
from pi0_ros.sim.world import World

_PERIOD = 1 / 30  # seconds between two images


class Window:
    """Shows a world; the mouse turns the view.

    Raises:
        UserError: there is no display, or the viewer does not take it.
    """

    def __init__(self, world: World) -> None:
        if sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise UserError(
                "no window without a display: neither DISPLAY nor WAYLAND_DISPLAY is set. "
                "Leave --window out, or start this in a desktop session"
            )
        import mujoco.viewer
        from mujoco.viewer import glfw

        # Asked here because the viewer ends the process where the answer is no.
        with warnings.catch_warnings(record=True) as reasons:
            usable = glfw.init()
        if not usable:
            why = "; ".join(str(reason.message) for reason in reasons)
            raise UserError(f"no window on the display {os.environ.get('DISPLAY')!r}: {why}")
        self._viewer = mujoco.viewer.launch_passive(
            world.stage.model, world.stage.data, show_left_ui=False, show_right_ui=False
        )
        self._due = 0.0

    def show(self) -> bool:
        """Draw the world's state if it is time to; False once the user has closed the window."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _PERIOD
            self._viewer.sync()
        return self._viewer.is_running()

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()
