"""The demo's run: pi0_sim and pi0_node as processes, three instructions, and a tape of it all."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from tqdm import tqdm

from pi0_ros.bags.writer import BagWriter
from pi0_ros.demo.record import NODE, Attempt, Record
from pi0_ros.demo.tape import TOPICS, Tape, type_name
from pi0_ros.ros.environment import environment, private_graph
from pi0_ros.ros.process import NodeError, NodeProcess
from pi0_ros.ros.services import Refused, ServiceCall, StateChange
from pi0_ros.ros.spinning import ros_node
from pi0_ros.sim.node_setup import LIMITS, PARAMETERS, config_file

ATTEMPT = 12.0
"""Seconds of the robot's time that the arm has for an instruction."""

_CAMERA_HZ = 15.0  # two cores are enough for it all, without a GPU
_START_LIMIT = 120.0  # seconds in which both processes have to begin
_ANSWER_LIMIT = 20.0  # seconds for anything later
_SLOWER = 3.0  # times that the robot's time may pass more slowly than it should
_REST = 500_000_000  # nanoseconds of the robot's time between a touch and the next instruction
_POLL = 0.01
_REFRESH = 0.5  # seconds between two states of a progress bar
_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_CONFIGURE = Transition.TRANSITION_CONFIGURE, "configure"
_ACTIVATE = Transition.TRANSITION_ACTIVATE, "activate"


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seed, variant: of the scene.
        checkpoint: directory of the policy.
        out: directory that is there; gets `bag`, which is not there yet, and the logs.
        speed: simulated per real time; 1: real time.
        window: show the simulation.
    """

    seed: int
    variant: str
    checkpoint: Path
    out: Path
    speed: float = 1.0
    window: bool = False

    def sim(self) -> list[str]:
        """The command line of the robot."""
        command = [sys.executable, "-m", "pi0_ros.sim.node", "--compressed"]
        command += ["--camera-hz", str(_CAMERA_HZ)]
        command += ["--seed", str(self.seed), "--variant", self.variant]
        command += ["--window"] * self.window
        if self.speed != 1:
            command += ["--clock", "--speed", str(self.speed)]
        return [*command, "--ros-args", "-r", f"joint_trajectory:={NODE}/joint_trajectory"]

    def node(self) -> list[str]:
        """The command line of the policy's node; the demo takes it through its life cycle."""
        parameters = {
            "checkpoint": str(self.checkpoint.resolve()),
            "joint_limits": str(config_file(LIMITS)),
            "image_transport": "compressed",
            "autostart": False,
            "use_sim_time": self.speed != 1,
        }
        command = [sys.executable, "-m", "pi0_ros.node", "--ros-args"]
        command += ["--params-file", str(config_file(PARAMETERS))]
        # A value is read as YAML, of which JSON is a part.
        return command + [
            word
            for name, value in parameters.items()
            for word in ("-p", f"{name}:={json.dumps(value)}")
        ]


def run(plan: Plan, interrupted: Callable[[], bool] = lambda: False) -> Record:
    """Gives the scene's instructions one after the other; ends both processes.

    Args:
        interrupted: asked every few milliseconds; True ends it.

    Raises:
        NodeError: something did not come in time, or somebody else is in this ROS domain.
        NodeEnded: one of the processes ended; the message has its last output.
        ValueError: a message does not hold what it should.
        KeyboardInterrupt: `interrupted` said so.
    """
    topics = {topic: type_name(what.kind) for topic, what in TOPICS.items()}
    with environment(private_graph(os.environ)), ExitStack() as stack:
        writer = stack.enter_context(BagWriter(plan.out / "bag", "mcap", topics))
        node = stack.enter_context(ros_node("pi0_demo"))
        record = Record()
        tape = Tape(node, writer, record)
        processes = [
            stack.enter_context(NodeProcess(command, plan.out / log))
            for command, log in ((plan.sim(), "sim.log"), (plan.node(), "node.log"))
        ]
        _Demo(plan, node, tape, record, processes, interrupted).run()
    return record


class _Demo:
    def __init__(
        self,
        plan: Plan,
        node: Node,
        tape: Tape,
        record: Record,
        processes: list[NodeProcess],
        interrupted: Callable[[], bool],
    ) -> None:
        # Seconds of real time for a second of the robot's.
        self._patience = _SLOWER / plan.speed
        self._node, self._tape, self._record = node, tape, record
        self._processes, self._interrupted = processes, interrupted
        self._instruction = node.create_publisher(String, "instruction", _KEPT)

    def run(self) -> None:
        record = self._record
        domain = os.environ["ROS_DOMAIN_ID"]
        layout = "{desc} {elapsed}"
        with tqdm(
            desc=f"Starting pi0_sim and pi0_node in ROS_DOMAIN_ID {domain}",
            total=0,
            bar_format=layout,
            mininterval=_REFRESH,
        ) as bar:
            self._begin(lambda: bar.update(0))
        layout = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}"
        with tqdm(desc="Instructions", total=3, bar_format=layout, mininterval=_REFRESH) as bar:
            for instruction in list(record.score["instructions"]):
                bar.set_postfix_str(instruction)
                self._attempt(instruction, lambda: bar.update(0))
                bar.update(1)
                bar.write(str(record.attempts[-1]), file=sys.stderr)
        # The figures are those of /diagnostics, which comes once a second.
        heard = len(record.counters)
        self._wait(lambda: len(record.counters) > heard, _ANSWER_LIMIT, "/diagnostics of pi0_node")

    def _begin(self, on_poll: Callable[[], object]) -> None:
        """Returns once the arm would move."""
        record = self._record
        for transition, name in (_CONFIGURE, _ACTIVATE):
            changing = StateChange(self._node, NODE, transition)
            try:
                self._ask(changing, name, on_poll)
            finally:
                changing.close()
        self._wait(
            lambda: record.score and record.frames and record.counters,
            _START_LIMIT,
            "the scene and the pictures of pi0_sim, and /diagnostics of pi0_node",
            on_poll,
        )
        self._wait(
            lambda: self._listeners() >= {"sim", NODE},
            _ANSWER_LIMIT,
            "subscriptions of pi0_sim and pi0_node to the topic instruction",
            on_poll,
        )
        for topic in TOPICS:
            if topic != "/diagnostics" and self._node.count_publishers(topic) > 1:
                raise NodeError(
                    f"another process publishes {topic} in this ROS domain and would be mixed up "
                    "with the demo: end it, or unset ROS_DOMAIN_ID, so that the demo takes a free "
                    "domain"
                )
        self._enable()

    def _attempt(self, instruction: str, on_poll: Callable[[], object]) -> None:
        record = self._record
        if record.latched:
            self._call(Trigger, "reset", Trigger.Request(), "reset")
            self._enable()
            record.resets += 1
        attempt = Attempt(instruction, record.now)
        record.attempts.append(attempt)
        self._instruction.publish(String(data=instruction))
        self._wait(
            lambda: attempt.ended or record.now > attempt.begun + ATTEMPT * 1e9,
            ATTEMPT * self._patience,
            "joint states of pi0_sim",
            on_poll,
        )
        attempt.ended = attempt.ended or record.now
        rested = record.now + _REST
        self._wait(lambda: record.now > rested, _ANSWER_LIMIT, "joint states of pi0_sim", on_poll)

    def _listeners(self) -> set[str]:
        """Names of the nodes that hear instructions."""
        topic = self._instruction.topic_name
        return {info.node_name for info in self._node.get_subscriptions_info_by_topic(topic)}

    def _enable(self) -> None:
        self._call(SetBool, "enable", SetBool.Request(data=True), "enable")

    def _wait(
        self,
        done: Callable[[], object],
        limit: float,
        what: str,
        on_poll: Callable[[], object] = lambda: None,
    ) -> None:
        """Record until something is so."""
        end = time.monotonic() + limit
        while not done():
            if self._interrupted():
                raise KeyboardInterrupt
            self._tape.poll()
            for process in self._processes:
                process.check()
            if time.monotonic() > end:
                raise NodeError(f"{what} did not come within {limit:g} s. {self._outputs()}")
            on_poll()
            time.sleep(_POLL)

    def _call(self, kind: Any, service: str, request: Any, what: str) -> None:
        client = self._node.create_client(kind, f"{NODE}/{service}")
        try:
            self._ask(ServiceCall(client, request), what)
        finally:
            self._node.destroy_client(client)

    def _ask(
        self,
        asking: ServiceCall | StateChange,
        what: str,
        on_poll: Callable[[], object] = lambda: None,
    ) -> None:
        """Raises NodeError where pi0_node does not answer or says no."""
        try:
            self._wait(asking.poll, _START_LIMIT, f"an answer of {NODE} to {what}", on_poll)
        except Refused as error:
            why = f": {error}" if str(error) else ""
            raise NodeError(f"pi0_node did not {what}{why}. {self._outputs()}") from error

    def _outputs(self) -> str:
        sim, node = (process.last_output() for process in self._processes)
        return f"Last output of pi0_sim:\n{sim}\nand of pi0_node:\n{node}"
