"""The closed loop over DDS: pi0_sim and pi0_node as processes, and a node that operates them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from pi0_ros.node.arguments import NODE_NAME, write_arguments
from pi0_ros.ros.environment import environment, private_graph
from pi0_ros.ros.process import NodeError, NodeProcess
from pi0_ros.ros.services import Refused, ServiceCall, StateChange
from pi0_ros.ros.spinning import ros_node
from pi0_ros.share import find_shared_file

START_LIMIT = 120.0
"""Seconds of real time in which both processes have to begin."""

ANSWER_LIMIT = 20.0
"""Seconds of real time for an answer of a process that runs."""

PARAMETERS, LIMITS = "touch.yaml", "so101_limits.yaml"
"""Files of the folder config for the simulated arm and the policy that was trained for it."""

_POLL = 0.005
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_TRANSITIONS = (
    ("configure", Transition.TRANSITION_CONFIGURE),
    ("activate", Transition.TRANSITION_ACTIVATE),
)


def config_file(name: str) -> Path:
    """A file of the package's folder config.

    Raises:
        FileNotFoundError: there is none.
    """
    file = find_shared_file(f"config/{name}")
    if file is None:
        raise FileNotFoundError(f"config/{name} is not in the share directory of pi0_ros")
    return file


@contextmanager
def closed_loop(
    name: str,
    sim_options: Sequence[str],
    parameters: Mapping[str, object],
    logs: Path,
    node_command: Sequence[str] = (sys.executable, "-m", "pi0_ros.node"),
) -> Iterator[ClosedLoop]:
    """Both processes in a ROS domain of their own on the loopback; they end with the block.

    Args:
        name: of the operating node.
        sim_options: of pi0_sim.
        parameters: of pi0_node, besides config/touch.yaml and the arm's limits.
        logs: folder for sim.log and node.log, the output of the processes.
        node_command: what runs pi0_node, up to --ros-args.
    """
    sim = [sys.executable, "-m", "pi0_ros.sim.node", *sim_options]
    sim += ["--ros-args", "-r", f"joint_trajectory:={NODE_NAME}/joint_trajectory"]
    given = {"joint_limits": str(config_file(LIMITS)), "autostart": False, **parameters}
    policy = [*node_command, "--ros-args", *write_arguments([config_file(PARAMETERS)], given)]
    with (
        environment(private_graph(os.environ)),
        ros_node(name) as node,
        NodeProcess(sim, logs / "sim.log") as sim_process,
        NodeProcess(policy, logs / "node.log") as policy_process,
    ):
        yield ClosedLoop(node, sim_process, policy_process)


class ClosedLoop:
    """Operates both processes; its methods wait, and belong to one thread.

    Attributes:
        node: to subscribe with; an executor spins it in a thread of its own.
        on_poll: called again and again while a method waits; what it raises ends the waiting.
    """

    def __init__(self, node: Node, sim: NodeProcess, policy: NodeProcess) -> None:
        self.node = node
        self.on_poll: Callable[[], object] = lambda: None
        self._sim, self._policy = sim, policy
        self._instruction = node.create_publisher(String, "instruction", _LATCHED)
        self._enable = node.create_client(SetBool, f"{NODE_NAME}/enable")
        self._reset = node.create_client(Trigger, f"{NODE_NAME}/reset")
        self._next_scene = node.create_client(Trigger, "sim/next_scene")

    def wait(self, done: Callable[[], object], limit: float, what: str) -> None:
        """Return once something is so.

        Args:
            limit: seconds of real time.
            what: did not come, for the error.

        Raises:
            NodeError: it was not so within the limit.
            NodeEnded: one of the processes ended.
        """
        end = time.monotonic() + limit
        while not done():
            for process in (self._sim, self._policy):
                process.check()
            if time.monotonic() > end:
                raise NodeError(f"{what} did not come within {limit:g} s. {self._outputs()}")
            self.on_poll()
            time.sleep(_POLL)

    def start(self) -> None:
        """Configure and activate pi0_node, and wait until both nodes subscribe to instructions.

        Raises:
            NodeError: it did not come so far; the message has the output of both.
        """
        for name, transition in _TRANSITIONS:
            with closing(StateChange(self.node, NODE_NAME, transition)) as change:
                self._ask(change.poll, f"{NODE_NAME}/{name}", START_LIMIT)

        def subscribers() -> set[str]:
            topic = self._instruction.topic_name
            return {info.node_name for info in self.node.get_subscriptions_info_by_topic(topic)}

        self.wait(
            lambda: subscribers() >= {"sim", NODE_NAME},
            ANSWER_LIMIT,
            "subscriptions of pi0_sim and pi0_node to the topic instruction",
        )

    def instruct(self, text: str) -> None:
        """Publish an instruction, latched, so that a late subscriber gets it too."""
        self._instruction.publish(String(data=text))

    def enable(self, on: bool = True) -> None:
        """Enable the motion of pi0_node, or disable it."""
        self._call(self._enable, SetBool.Request(data=on))

    def reset(self) -> None:
        """Clear what has latched in pi0_node."""
        self._call(self._reset, Trigger.Request())

    def next_scene(self, there: Callable[[], bool]) -> None:
        """Arrange the next scene, once, even if the answer is lost.

        Args:
            there: whether pi0_sim has reported it.
        """
        call = ServiceCall(self._next_scene, Trigger.Request(), again=lambda: not there())
        self._ask(lambda: call.poll() or there(), "sim/next_scene", ANSWER_LIMIT)
        self.wait(there, ANSWER_LIMIT, "the next scene of pi0_sim")

    def _call(self, client: Any, request: Any) -> None:
        self._ask(ServiceCall(client, request).poll, client.srv_name, ANSWER_LIMIT)

    def _ask(self, poll: Callable[[], object], service: str, limit: float) -> None:
        """Raises NodeError where a service does not answer or refuses."""
        try:
            self.wait(poll, limit, f"an answer of {service}")
        except Refused as error:
            reason = f": {error}" if str(error) else ""
            raise NodeError(f"{service} refused{reason}. {self._outputs()}") from error

    def _outputs(self) -> str:
        sim, policy = self._sim.last_output(), self._policy.last_output()
        return f"Last output of pi0_sim:\n{sim}\nand of pi0_node:\n{policy}"
