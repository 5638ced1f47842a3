"""What a run without ROS rests on: a recording, the node's parameters, limits and policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.bags.bag import Bag, BagError, match_topics, open_bag, read_messages
from pi0_ros.bags.messages import decode
from pi0_ros.motion.limits import JointLimits, read_limits
from pi0_ros.node.interface import Interface, Topic, read_interface
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import ContractError, LoadError, contract_problems, load_policy
from pi0_ros.replay.steps import SeededPolicy

Check = Callable[[NodeParameters, None], list[str]]
Load = Callable[[NodeParameters], SeededPolicy]

LOOKED_AT = 1000
"""Joint states in which the joints are looked for before a recording counts as another robot's."""


@dataclass(frozen=True)
class Offline:
    """A recording and the node's settings, which fit each other.

    Attributes:
        topics: topic in the recording -> what the node needs it for.
        limits: of the joints; None without a file.
    """

    bag: Bag
    parameters: NodeParameters
    interface: Interface
    topics: Mapping[str, Topic]
    limits: JointLimits | None

    def types(self) -> dict[str, str]:
        """Topic in the recording -> message type, of the topics that are needed."""
        return {topic: need.type for topic, need in self.topics.items()}

    def cameras(self) -> list[str]:
        """Topics in the recording that are cameras."""
        return [topic for topic, need in self.topics.items() if "Image" in need.type]

    def joint_states(self) -> str:
        """Topic in the recording of the joint states."""
        return next(t for t, need in self.topics.items() if need.type.endswith("/JointState"))


def open_offline(
    bag_path: str | Path,
    ros_args: Sequence[str],
    remaps: Mapping[str, str] | None = None,
    check: Check = contract_problems,
) -> Offline:
    """Opens a recording and checks that it, the parameters and the checkpoint fit each other.

    Args:
        ros_args: the node's, the checkpoint among them.
        remaps: topic in the recording -> topic to play it on.

    Raises:
        BagError: the recording cannot be read, or lacks topics or joints that the node needs.
        ArgumentsError: as `read_interface`.
        ContractError: parameters, checkpoint and limits do not fit each other; lists everything.
        OSError: a parameter file cannot be read.
    """
    bag = open_bag(bag_path)
    interface = read_interface(ros_args)
    parameters = interface.parameters
    topics = match_topics(bag, interface.observed, remaps)
    problems = check(parameters, None)
    if problems:
        raise ContractError(problems)
    limits = None
    if parameters.joint_limits:
        path = Path(parameters.joint_limits).expanduser()
        limits = read_limits(path, parameters.joint_names, parameters.default_acceleration)
    offline = Offline(bag, parameters, interface, topics, limits)
    check_joints(bag, offline.joint_states(), parameters.joint_names)
    return offline


def check_joints(bag: Bag, topic: str, joints: Sequence[str]) -> None:
    """That some joint state names all the joints.

    Raises:
        BagError: none does: it says which there are and which are wanted.
    """
    kind = "sensor_msgs/msg/JointState"
    best: tuple[str, ...] = ()
    for number, message in enumerate(read_messages(bag, {topic: kind})):
        try:
            names = tuple(decode(message.data, kind).name)
        except ValueError:
            continue  # counted as malformed where it is played
        if set(joints) <= set(names):
            return
        if len(set(names) & set(joints)) > len(set(best) & set(joints)) or not best:
            best = names
        if number + 1 >= LOOKED_AT:
            break
    missing = [name for name in joints if name not in best]
    raise BagError(
        f"{bag.path}: no joint state on {topic} names the {len(joints)} joints of the parameters.\n"
        f"  wanted:   {', '.join(joints)}\n"
        f"  recorded: {', '.join(best) or 'no names'} ({len(best)} joints)\n"
        f"  missing:  {', '.join(missing)}\n"
        "If it is this robot under other names, give those as `joints` in --params, in the"
        " checkpoint's order;\notherwise the recording is of another robot, and needs a checkpoint"
        " trained for that one."
    )


def load(parameters: NodeParameters, load_as: Load = load_policy) -> SeededPolicy:
    """The policy, in this process whatever `policy_process` says.

    Raises:
        LoadError: it cannot be loaded; names the checkpoint and the cause.
    """
    try:
        return load_as(parameters)
    except (ValueError, OSError, RuntimeError) as error:
        raise LoadError(parameters.checkpoint, error) from error
