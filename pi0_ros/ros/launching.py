"""How a launch ends: with its process, and with a status that says whether that went well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launch.actions import EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown

from launch import LaunchContext


def end_with(process: Any, what: str) -> RegisterEventHandler:
    """End the launch when a process ends: with status 1 if the process failed.

    The end is told once only: Ctrl-C ends the processes too, and a second shutdown is an error of
    launch_ros ("Cannot shutdown a ROS adapter that is not running").

    Args:
        process: the action.
        what: it is, for the log.
    """

    def on_exit(event: Any, context: LaunchContext) -> Sequence[EmitEvent] | None:
        if context.is_shutdown:
            return None
        if event.returncode:
            # What a launch returns is 1 only after an error of its own.
            raise RuntimeError(f"{what} ended with status {event.returncode}; see its log above")
        return [EmitEvent(event=Shutdown(reason=f"{what} is over"))]

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=on_exit))
