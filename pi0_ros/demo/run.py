"""The demo's run: three instructions, one after the other, and a recording of it all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros import console
from pi0_ros.bags.writer import BagWriter
from pi0_ros.demo.record import Attempt, Record
from pi0_ros.msg import ActionChunk
from pi0_ros.node.arguments import NODE_NAME
from pi0_ros.ros.process import NodeError
from pi0_ros.ros.recorder import Recorded, Recorder
from pi0_ros.sim.closed_loop import ANSWER_LIMIT, START_LIMIT, ClosedLoop, closed_loop
from pi0_ros.sim.versions import VERSIONS, Replacement

ATTEMPT = 12.0
"""Seconds of the robot's time that the arm has for an instruction."""

_CAMERA_HZ = 15.0  # two cores are enough for it all, without a GPU
_SLOWER = 3.0  # times that the robot's time may pass more slowly than it should
_PAUSE = 500_000_000  # nanoseconds of the robot's time between a touch and the next instruction
_REFRESH = 0.5  # seconds between two states of a progress bar

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_IMAGES = QoSProfile(depth=10)


def _topics(record: Record) -> dict[str, Recorded]:
    """Topics of the recording, and what the record does with a message."""
    return {
        "/front/image_raw/compressed": Recorded(CompressedImage, record.on_image, _IMAGES),
        "/wrist/image_raw/compressed": Recorded(CompressedImage, qos=_IMAGES),
        "/joint_states": Recorded(JointState, record.on_joint_state),
        "/instruction": Recorded(String, qos=_LATCHED),
        f"/{NODE_NAME}/action_chunk": Recorded(ActionChunk, record.on_chunk),
        f"/{NODE_NAME}/joint_trajectory": Recorded(JointTrajectory, record.on_trajectory),
        "/diagnostics": Recorded(DiagnosticArray, record.on_diagnostics),
        "/robot_description": Recorded(String, qos=_LATCHED),
        "/sim/touched": Recorded(String),
        "/sim/score": Recorded(String, record.on_score, _LATCHED),
    }


def _sim_options(args: argparse.Namespace) -> list[str]:
    options = ["--compressed", "--camera-hz", str(_CAMERA_HZ), "--seed", str(args.seed)]
    options += ["--variant", args.variant, "--controller", args.controller]
    options += ["--window"] * args.window
    return options + ["--clock", "--speed", str(args.speed)] * (args.speed != 1)


def _parameters(args: argparse.Namespace, checkpoint: Path) -> dict[str, object]:
    given = {
        "checkpoint": str(checkpoint.resolve()),
        "image_transport": "compressed",
        "use_sim_time": args.speed != 1,
    }
    if VERSIONS[args.controller].replacement is Replacement.BLEND:
        given |= {"controller": "jtc_replacing", "splice_lead": 0.1}
    return given


def run(
    args: argparse.Namespace, checkpoint: Path, out: Path, interrupted: Callable[[], bool]
) -> Record:
    """Give the instructions of the scene one after the other; ends both processes.

    Args:
        args: the options of command.py.
        out: gets `bag` and the logs.
        interrupted: asked every few milliseconds; True ends it.

    Raises:
        NodeError: something did not come in time, another node is in this ROS domain, or one of
            the processes ended.
    """
    record = Record()
    topics = _topics(record)
    types = {topic: how.type for topic, how in topics.items()}
    with (
        BagWriter(out / "bag", "mcap", types) as writer,
        closed_loop("pi0_demo", _sim_options(args), _parameters(args, checkpoint), out) as loop,
    ):
        recorder = Recorder(loop.node, topics, lambda: record.now)
        recorder.write = writer.write

        def poll() -> None:
            if interrupted():
                raise KeyboardInterrupt
            recorder.poll()
            bar.update(0)

        loop.on_poll = poll
        layout = {"bar_format": "{desc} {elapsed}", "mininterval": _REFRESH}
        with console.progress(desc="Starting", total=0, **layout) as bar:
            _start(loop, record)
        layout["bar_format"] = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}"
        with console.progress(desc="Instructions", total=3, **layout) as bar:
            for instruction in list(record.score["instructions"]):
                bar.set_postfix_str(instruction)
                attempt = _attempt(loop, record, instruction, _SLOWER / args.speed)
                bar.update(1)
                bar.write(str(attempt), file=sys.stderr)
            # The figures are those of /diagnostics, which comes once a second.
            received = len(record.counters)
            loop.wait(
                lambda: len(record.counters) > received, ANSWER_LIMIT, "/diagnostics of pi0_node"
            )
    return record


def _start(loop: ClosedLoop, record: Record) -> None:
    """Return once the arm would move."""
    loop.start()
    loop.wait(
        lambda: record.score and record.frames and record.counters,
        START_LIMIT,
        "the scene and the images of pi0_sim, and /diagnostics of pi0_node",
    )
    for topic in _topics(record):
        if topic != "/diagnostics" and loop.node.count_publishers(topic) > 1:
            raise NodeError(
                f"another process publishes {topic} in this ROS domain and would be mixed up with "
                "the demo: end it, or unset ROS_DOMAIN_ID, so that the demo takes a free domain"
            )
    loop.enable()


def _attempt(loop: ClosedLoop, record: Record, instruction: str, patience: float) -> Attempt:
    """Give an instruction and wait for what comes of it, `patience` times as long at most."""
    if record.latched:
        loop.reset()
        loop.enable()
        record.resets += 1
    attempt = Attempt(instruction, record.now)
    record.attempts.append(attempt)
    loop.instruct(instruction)
    loop.wait(
        lambda: attempt.ended or record.now > attempt.begun + ATTEMPT * 1e9,
        ATTEMPT * patience,
        "joint states of pi0_sim",
    )
    attempt.ended = attempt.ended or record.now
    end = record.now + _PAUSE
    loop.wait(lambda: record.now > end, ANSWER_LIMIT, "joint states of pi0_sim")
    return attempt
