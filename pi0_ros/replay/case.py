"""What a replay rests on: a recording, and a node whose topics it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.bags.bag import IMAGE_TYPES, STATES_TYPE, BagError, Recording, open_bag
from pi0_ros.bags.messages import decode
from pi0_ros.bags.topics import match_topics
from pi0_ros.datasets.episode import PARAMETERS, open_episode, playing
from pi0_ros.datasets.layout import open_data_set
from pi0_ros.node.arguments import write_arguments
from pi0_ros.node.interface import Interface, Topic, read_interface
from pi0_ros.node.loading import LoadError, load_policy
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import PreflightError, preflight, units_of
from pi0_ros.replay.steps import SeededPolicy

MOST_STATES = 1000
"""Joint states in which the joints are looked for before a recording counts as another robot's."""


@dataclass(frozen=True)
class Case:
    """A recording, and the node that it is played to.

    Attributes:
        topics: topic in the recording -> the node's topic that it is played on.
    """

    bag: Recording
    interface: Interface
    topics: Mapping[str, Topic]

    @property
    def parameters(self) -> NodeParameters:
        return self.interface.parameters

    @property
    def types(self) -> dict[str, str]:
        """Topic in the recording -> message type, of the topics that are played."""
        return {topic: need.type for topic, need in self.topics.items()}

    @property
    def cameras(self) -> list[str]:
        return [topic for topic, kind in self.types.items() if kind in IMAGE_TYPES]

    @property
    def joint_states(self) -> list[str]:
        return [topic for topic, kind in self.types.items() if kind == STATES_TYPE]

    @property
    def units(self) -> dict[str, str]:
        """Joint -> "rad" or "m"."""
        return dict(zip(self.parameters.joint_names, units_of(self.parameters), strict=True))


def node_arguments(
    checkpoint: Path, params: Sequence[Path], ros_args: Sequence[str], enable: bool = False
) -> list[str]:
    """What follows --ros-args on the node's command line; of two values the later one wins.

    Raises:
        FileNotFoundError: no checkpoint or parameter file.
    """
    for path in (checkpoint, *params):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
    # The replay configures and activates the node itself, which tells it how that went.
    ours = {
        "use_sim_time": True,
        "checkpoint": str(checkpoint.resolve()),
        "autostart": False,
        "start_enabled": enable,
        "recorded_arm": True,
    }
    return [*write_arguments(params), *ros_args, *write_arguments(parameters=ours)]


def open_case(
    bag: str | Path,
    ros_args: Sequence[str],
    remaps: Mapping[str, str] | None = None,
    episode: int | None = None,
) -> Case:
    """Opens a recording and finds the node's topics in it.

    Args:
        bag: rosbag2 recording, or the directory of a LeRobot data set.
        ros_args: the node's, the checkpoint among them.
        remaps: topic in the recording, or feature of the data set -> topic to play it on.
        episode: of the data set.

    Raises:
        BagError: the recording cannot be read, or lacks topics that the node needs.
        ArgumentsError: the node would not start with these arguments.
    """
    if episode is None:
        opened = open_bag(bag)
        interface = read_interface(ros_args)
        return Case(opened, interface, match_topics(opened, interface.observed, remaps))
    interface = read_interface([*ros_args, *write_arguments(parameters=PARAMETERS)])
    recording = open_episode(open_data_set(bag), episode, interface.parameters)
    needed, played = playing(recording, interface)
    given = set((remaps or {}).values())
    played = {feature: topic for feature, topic in played.items() if topic not in given}
    return Case(recording, interface, match_topics(recording, needed, {**played, **(remaps or {})}))


def check_case(case: Case) -> None:
    """Parameters, checkpoint, limits and recording fit each other.

    Raises:
        PreflightError: parameters, checkpoint and limits do not; lists everything.
        BagError: the joint states do not name all the joints.
    """
    problems = preflight(case.parameters, None)
    if problems:
        raise PreflightError(problems)
    _check_joints(case.bag, case.joint_states, case.parameters.joint_names)


def _check_joints(bag: Recording, topics: Sequence[str], joints: Sequence[str]) -> None:
    named: dict[str, None] = {}  # in the order in which they come
    for number, message in enumerate(bag.messages(dict.fromkeys(topics, STATES_TYPE))):
        try:
            named.update(dict.fromkeys(decode(message.data, STATES_TYPE).name))
        except ValueError:
            continue  # counted as malformed where it is played
        if set(joints) <= set(named):
            return
        if number + 1 >= MOST_STATES:
            break
    missing = [name for name in joints if name not in named]
    raise BagError(
        f"{bag.path}: the joint states on {' and '.join(topics)} do not name the {len(joints)}"
        " joints of the parameters.\n"
        f"  wanted:   {', '.join(joints)}\n"
        f"  recorded: {', '.join(named) or 'no names'} ({len(named)} joints)\n"
        f"  missing:  {', '.join(missing)}\n"
        "If it is this robot under other names, give those as `joints` in --params, in the"
        " checkpoint's order;\notherwise the recording is of another robot, and needs a checkpoint"
        " trained for that one."
    )


def load(parameters: NodeParameters) -> SeededPolicy:
    """The policy, in this process whatever `policy_url` says.

    Raises:
        LoadError: it cannot be loaded; names the checkpoint and the cause.
    """
    try:
        return load_policy(parameters)
    except (ValueError, OSError, RuntimeError) as error:
        raise LoadError(parameters, error) from error
