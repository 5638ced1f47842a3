"""Which topics of a recording the node takes, and for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pi0_ros.bags.bag import BagError, BagTopic, Recording, describe_topics
from pi0_ros.node.interface import Topic


def match_topics(
    bag: Recording, needed: Sequence[Topic], remaps: Mapping[str, str] | None = None
) -> dict[str, Topic]:
    """Finds the recorded topic for each topic the node needs.

    Args:
        remaps: topic in the recording -> topic to play it on.

    Returns:
        Topic in the recording -> what the node needs it for.

    Raises:
        BagError: a required topic is not there, holds no messages or has another type; or a remap
            names a topic that the recording lacks. The message lists what is there.
    """
    remaps = dict(remaps or {})
    present = {topic.name for topic in bag.topics}
    problems = [
        f"--remap {source}:={target}: {source} is not in the recording"
        for source, target in remaps.items()
        if source not in present
    ]
    played_as: dict[str, list[BagTopic]] = {}
    for topic in bag.topics:
        played_as.setdefault(remaps.get(topic.name, topic.name), []).append(topic)

    matches: dict[str, Topic] = {}
    for need in needed:
        candidates = played_as.get(need.name, [])
        right = [topic for topic in candidates if topic.type == need.type]
        filled = [topic for topic in right if topic.count]
        if len(filled) > 1:
            names = " and ".join(topic.name for topic in filled)
            problems.append(f"{need.name}: {names} would both be played on it")
        elif filled:
            matches[filled[0].name] = need
        elif right and need.required:
            problems.append(f"{need.name} ({need.purpose}) is there but holds no messages")
        elif candidates and not right:
            types = " and ".join(topic.type for topic in candidates)
            problems.append(
                f"{need.name} ({need.purpose}) holds {types}; the node subscribes to {need.type}"
            )
        elif need.required:
            problems.append(f"{need.name} ({need.purpose}, {need.type}) is missing")
    if problems:
        raise BagError(
            f"{bag.path} does not fit the node:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + f"\nThe recording holds:\n{describe_topics(bag.topics)}\n"
            "Choose the node's topics with --params (`cameras`, `camera.<name>.topic`, "
            "`joint_states_topics`, `image_transport`, `instruction`),\n"
            "or play a topic under another name with --remap FROM:=TO."
            + _namespace_hint(bag, needed)
        )
    return matches


def _namespace_hint(bag: Recording, needed: Sequence[Topic]) -> str:
    """Where all required topics are there under one namespace, how to start the node in it."""
    required = [need for need in needed if need.required]
    spaces = [
        {
            topic.name.removesuffix(need.name)
            for topic in bag.topics
            if topic.type == need.type and topic.name.endswith(need.name)
        }
        for need in required
    ]
    common = set.intersection(*spaces) - {""} if spaces else set()
    if len(common) != 1:
        return ""
    return f"\nAll of them are there under {min(common)}: give --ros-args -r __ns:={min(common)}"
