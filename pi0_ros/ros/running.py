"""How a program that is a node runs and ends: what the user can mend, signals, its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pi0_ros.console import DONE, FAILED, require
from pi0_ros.errors import UserError


def run_command(name: str, run: Callable[[], object], *modules: str) -> int:
    """Run a program; returns its exit status.

    Args:
        name: of the program, for errors.
        modules: that it needs besides ROS.
    """
    try:
        require("rclpy", "pi0_ros.msg", *modules)
        run()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:  # before `ros`, while modules are imported
        pass
    return DONE


@contextmanager
def ros(arguments: Sequence[str]) -> Iterator[None]:
    """ROS within a block, which a signal ends.

    Raises:
        UserError: ROS does not take the arguments.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException

    try:
        rclpy.init(args=list(arguments))
    except Exception as error:  # rclpy raises several kinds, all with rcl's reason as text
        raise UserError(f"ROS does not take the arguments: {error}") from error
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        # A signal may have shut ROS down in the middle of anything.
        if rclpy.ok() or isinstance(error, UserError):
            raise
    finally:
        rclpy.try_shutdown()
