"""The way of an image through the node: `python -m benchmarks.image_path [--checkpoint DIR]`.

Runs `Pi0Node` in this process on the loopback, sends it one image per camera and one joint state,
and lists the files and functions of pi0_ros that Python enters between the image's callback and the
published trajectory (`sys.setprofile` in the executor's thread and in the worker's). Timers that
fire meanwhile for other reasons (diagnostics, the deadman) do not count.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import pi0_ros

CAMERAS = ("front", "wrist")
JOINTS = tuple(f"joint_{i}" for i in range(6))
DT = 0.1  # s; tracing makes inferences slow, and a chunk that is over by then is refused
TIMEOUT = 120.0
"""Seconds until a trajectory must have come."""

ASIDE = ("_on_second", "_on_watch", "_on_autostart", "publish")
"""Callbacks of timers that are not on the way, whatever they do; `publish` is /diagnostics'."""

PACKAGE = str(Path(pi0_ros.__file__).parent) + os.sep


class StandIn:
    """A policy that wants the arm to stay where it is, and takes 30 ms."""

    horizon, device = 50, "cpu"

    def reset(self) -> None: ...

    def infer(self, observation: Any) -> Any:
        from pi0_ros.policy.types import ActionChunk

        time.sleep(0.03)
        positions = np.tile(observation.state, (self.horizon, 1)).astype(np.float32)
        return ActionChunk(positions, DT, observation.stamp, 0, 0)


class Trace:
    """Functions of the package that threads enter while it records, by the callback they serve."""

    def __init__(self) -> None:
        self.recording = False
        self.calls: list[tuple[str, str, str]] = []  # root, file, function
        self._roots = threading.local()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(PACKAGE):
            return
        here = self._roots.__dict__
        if event == "return":
            if here.get("frame") is frame:
                here.clear()
            elif here.get("collect") is frame:
                here["name"] = here["root"]
            return
        if "frame" not in here:
            here["frame"], here["root"] = frame, code.co_name
            here["name"] = here["root"]
        elif code.co_name == "collect":  # a busy machine's watch takes the chunk
            here["collect"], here["name"] = frame, code.co_name
        if self.recording:
            # Python 3.10 has no co_qualname.
            name = getattr(code, "co_qualname", code.co_name)
            self.calls.append((here["name"], code.co_filename.removeprefix(PACKAGE), name))

    def way(self) -> dict[str, dict[str, None]]:
        """File -> functions, both in the order in which they were entered."""
        files: dict[str, dict[str, None]] = {}
        for root, file, name in self.calls:
            if root not in ASIDE and "<" not in name.split(".")[-1]:  # no lambdas and generators
                files.setdefault(file, {})[name] = None
        return files


def measure(checkpoint: Path | None) -> dict[str, dict[str, None]]:
    """See `Trace.way`."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image, JointState
    from trajectory_msgs.msg import JointTrajectory

    from pi0_ros.node.node import Pi0Node

    trace = Trace()
    threading.setprofile(trace)  # for the worker, which begins in `configure`
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder, "limits.yaml")
        one = "{min_position: -3.0, max_position: 3.0, max_velocity: 50.0, max_acceleration: 900.0}"
        limits.write_text("\n".join(["joint_limits:", *(f"  {j}: {one}" for j in JOINTS), ""]))
        values = {
            "checkpoint": str(checkpoint or "/none"),
            "cameras": list(CAMERAS),
            "joints": list(JOINTS),
            "instruction": "touch the red cube",
            "joint_limits": str(limits),
            "allow_wide_limits": True,
            "start_enabled": True,
            "frozen_frames": 0,
            "max_skew": 60.0,  # no refusals, whose way is another one
            "joint_states_max_age": 60.0,
            **{f"camera.{camera}.max_age": 60.0 for camera in CAMERAS},
            "starve_timeout": 60.0,
            "action_dt": DT,
            "max_jump": 3.0,
            "clamp_velocity": 100.0,
            "clamp_acceleration": 10000.0,
            "clamp_position": 3.0,
            "reject_latch": 1000,
            "untracked_joints": list(JOINTS),  # nothing moves them
        }
        rclpy.init(args=[])
        stand_in: dict[str, Any] = {} if checkpoint else {"load": lambda *_: StandIn()}
        node = Pi0Node(
            check=lambda *_: [],
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
            **stand_in,
        )
        robot = rclpy.create_node("robot")
        heard: list[JointTrajectory] = []
        robot.create_subscription(JointTrajectory, "pi0/joint_trajectory", heard.append, 10)
        joints = robot.create_publisher(JointState, "joint_states", 10)
        cameras = [robot.create_publisher(Image, f"{c}/image_raw", 10) for c in CAMERAS]
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.add_node(robot)

        def spin(until: Callable[[], bool], what: str, send: bool) -> None:
            end = time.monotonic() + TIMEOUT
            while not until():
                if time.monotonic() > end:
                    raise TimeoutError(f"{what} did not come within {TIMEOUT:g} s")
                if send:
                    publish()
                executor.spin_once(0.02)

        def publish() -> None:
            now = node.get_clock().now().to_msg()
            state = JointState(name=list(JOINTS), position=[0.1] * len(JOINTS))
            state.header.stamp = now
            joints.publish(state)
            image = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(48 * 192))
            image.header.stamp = now
            for camera in cameras:
                camera.publish(image)

        node.trigger_configure()
        node.trigger_activate()
        sys.setprofile(trace)
        try:
            spin(lambda: len(heard) > 3, "a first trajectory", send=True)
            heard.clear()
            trace.recording = True
            spin(lambda: len(heard) > 10, "trajectories", send=True)
            trace.recording = False
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            node.stop(5.0)
            executor.shutdown()
            node.destroy_node()
            robot.destroy_node()
            rclpy.shutdown()
    return trace.way()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--checkpoint", type=Path, help="run its policy; a stand-in without a model by default"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    logging.disable(logging.INFO)
    files = measure(arguments.checkpoint)
    for file, names in files.items():
        print(f"{file}\n    " + "\n    ".join(names))
    print(f"{len(files)} files, {sum(map(len, files.values()))} functions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
