"""Where trajectories go: one message per output, all or none; some are sampled by the node."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.motion.sampling import Sampler
from pi0_ros.motion.spline import Motion, Trajectory
from pi0_ros.node.messages import TrajectorySerializer
from pi0_ros.node.parameter_table import JOINT_TRAJECTORY, NodeParameters, Output

_Path = TypeVar("_Path", Motion, Trajectory)


@dataclass(frozen=True)
class OutputStatus:
    """An output as /diagnostics shows it.

    Attributes:
        name: of the output; "all" where one controller has all joints.
        topic: absolute.
        type: of its messages.
        subscribers: nodes that receive them now, controllers and recorders alike.
        sent: messages since the node began.
        late: samples that came too late for the motion to go on as planned; None: not sampled.
        delay: seconds by which the samples are behind the motion; None: not sampled.
    """

    name: str
    topic: str
    type: str
    joints: Sequence[str]
    subscribers: int
    sent: int
    late: int | None = None
    delay: float | None = None


class Unsent(RuntimeError):
    """A trajectory, or a sample of one, was not sent to some outputs.

    Attributes:
        joints: numbers of the joints that these outputs have.
    """

    def __init__(
        self,
        outputs: Sequence[_Trajectories | _Samples],
        cause: Exception,
        sent: str = "a trajectory",
    ) -> None:
        self.joints = [column for output in outputs for column in output.columns]
        names = ", ".join(f"{one.output.name} ({one.publisher.topic_name})" for one in outputs)
        what = f"{type(cause).__name__}: {cause}"
        super().__init__(f"{sent} could not be sent to output {names}: {what}")


class CommandOutputs:
    """From the node's beginning to its end; every method belongs to the executor's thread.

    A controller of joint trajectories finishes what it has, even if the node is deactivated
    meanwhile; so do the samples of an output that the node samples.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: NodeParameters,
        qos: Mapping[str, QoSProfile],
        on_unsent: Callable[[Unsent], None],
    ) -> None:
        """Create the publishers.

        Args:
            qos: output -> profile.
            on_unsent: called where a sample could not be sent.
        """
        self._node = node
        names = parameters.joint_names
        self._outputs = [
            _Trajectories(node, output, names, qos[output.name])
            if output.type == JOINT_TRAJECTORY
            else _Samples(node, output, names, qos[output.name], on_unsent)
            for output in parameters.effective_outputs
        ]
        self._rest = 0  # nanoseconds from which on nothing moves

    def set_velocity_limits(self, limits: np.ndarray) -> None:
        """[joints] radians per second that no sample exceeds."""
        for output in self._outputs:
            output.set_velocity_limits(limits)

    def type_problems(self) -> list[str]:
        """Outputs whose subscribers all want messages of another type, one sentence each."""
        problems = []
        for entry in self._outputs:
            topic, wanted = entry.publisher.topic_name, entry.output.type.replace("/", "/msg/")
            there = self._node.get_subscriptions_info_by_topic(topic)
            if there and wanted not in {info.topic_type for info in there}:
                others = " and ".join(sorted({f"{i.node_name}: {i.topic_type}" for i in there}))
                problems.append(
                    f"{topic} (output {entry.output.name}): the node sends {wanted}, but its"
                    f" subscribers take others ({others}): set outputs.<name>.type or .topic"
                )
        return problems

    def unserved(self) -> str:
        """Which outputs nobody subscribes to, in a sentence; "" where all have a subscriber."""
        missing = [o for o in self._outputs if not o.publisher.get_subscription_count()]
        if not missing:
            return ""
        text = ", ".join(f"{o.output.name} ({o.publisher.topic_name})" for o in missing)
        return f"no controller subscribes to output {text}: nothing is sent to any"

    def lost(self, now: int) -> str:
        """What is unserved while a trajectory is executing; "" if nothing is."""
        return self.unserved() if now < self._rest else ""

    def publish(self, trajectory: Trajectory, motion: Motion, now: int) -> None:
        """Send a trajectory: one message per output, with one stamp.

        What cannot be serialised is sent to none; what one output does not take, to the others.

        Args:
            trajectory: what is sent; its columns are the node's joints.
            motion: what the arm then does, in the node's time.
            now: nanoseconds of the node's clock.

        Raises:
            Unsent: whatever the middleware raised.
        """
        try:
            ready = [output.prepare(trajectory, motion, now) for output in self._outputs]
        except Exception as error:
            raise Unsent(self._outputs, error) from error
        unsent, cause = [], None
        for output, send in zip(self._outputs, ready, strict=True):
            try:
                send()
            except Exception as error:
                unsent.append(output)
                cause = error
        if cause is not None:
            raise Unsent(unsent, cause) from cause
        self._rest = motion.rests_from

    def statuses(self) -> list[OutputStatus]:
        """Every output, in the order of the parameters."""
        return [output.status() for output in self._outputs]


class _Trajectories:
    """One trajectory_msgs/JointTrajectory for each trajectory."""

    def __init__(
        self, node: LifecycleNode, output: Output, joints: Sequence[str], qos: QoSProfile
    ) -> None:
        self.output = output
        self.publisher: Publisher = node.create_lifecycle_publisher(
            JointTrajectory, output.topic, qos
        )
        self.columns = [joints.index(name) for name in output.joints]
        self._serializer = TrajectorySerializer(output.joints)
        self._sent = 0

    def set_velocity_limits(self, limits: np.ndarray) -> None:
        """The trajectories are within them."""

    def prepare(self, trajectory: Trajectory, motion: Motion, now: int) -> Callable[[], None]:
        message = self._serializer.serialize(_of(trajectory, self.columns))

        def send() -> None:
            self.publisher.publish(message)
            self._sent += 1

        return send

    def status(self) -> OutputStatus:
        return _status(self.output, self.publisher, self._sent)


class _Samples:
    """std_msgs/Float64MultiArray, sampled from the executing motion until it is at rest."""

    def __init__(
        self,
        node: LifecycleNode,
        output: Output,
        joints: Sequence[str],
        qos: QoSProfile,
        on_unsent: Callable[[Unsent], None],
    ) -> None:
        self.output, self._on_unsent = output, on_unsent
        # Not a lifecycle publisher: what moves when the node is deactivated comes to rest.
        self.publisher: Publisher = node.create_publisher(Float64MultiArray, output.topic, qos)
        self.columns = [joints.index(name) for name in output.joints]
        self._clock = node.get_clock()
        self._sampler = Sampler(round(1e9 / output.rate_hz), np.full(len(self.columns), np.inf))
        self._sent = 0
        # Simulated time may pass faster; the system's clock may be set.
        simulated = node.get_parameter("use_sim_time").value
        clock = self._clock if simulated else Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(1 / output.rate_hz, self._on_timer, clock=clock)
        self._timer.cancel()

    def set_velocity_limits(self, limits: np.ndarray) -> None:
        self._sampler.velocity = limits[self.columns]

    def prepare(self, trajectory: Trajectory, motion: Motion, now: int) -> Callable[[], None]:
        own = _of(motion, self.columns)

        def send() -> None:
            if self._sampler.at_rest:
                self._timer.reset()
            self._sampler.follow(own, now)

        return send

    def _on_timer(self) -> None:
        before = copy(self._sampler)
        positions = self._sampler.sample(self._clock.now().nanoseconds)
        if positions is not None:
            try:
                self.publisher.publish(Float64MultiArray(data=array("d", positions.tobytes())))
            except Exception as error:
                self._sampler = before  # the next one is a sample that comes late
                self._on_unsent(Unsent([self], error, "a sample"))
                return
            self._sent += 1
        if self._sampler.at_rest:
            self._timer.cancel()

    def status(self) -> OutputStatus:
        sampler = self._sampler
        return _status(self.output, self.publisher, self._sent, sampler.late, sampler.delay)


def _of(path: _Path, columns: Sequence[int]) -> _Path:
    """Some of the joints."""
    positions, velocities = path.positions[:, columns], path.velocities[:, columns]
    return replace(path, positions=positions, velocities=velocities)


def _status(
    output: Output,
    publisher: Publisher,
    sent: int,
    late: int | None = None,
    delay: float | None = None,
) -> OutputStatus:
    subscribers = publisher.get_subscription_count()
    topic = publisher.topic_name
    return OutputStatus(
        output.name, topic, output.type, output.joints, subscribers, sent, late, delay
    )
