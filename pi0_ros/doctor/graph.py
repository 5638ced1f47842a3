"""Judging topics, quality of service and clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.doctor.samples import Collected
from pi0_ros.node.interface import Interface, Topic, node_topics
from pi0_ros.node.preflight import type_problems

SAME_CLOCK = 10e9
"""Nanoseconds within which stamps count as of a clock."""


def judge_graph(interface: Interface, collected: Collected) -> list[Finding]:
    """Which topics exist, of which type, whether they reach the node, and which clock runs."""
    return [
        *_topics(interface, collected),
        *(_qos(interface, collected) if collected.live else ()),
        _clock(interface, collected),
    ]


def _topics(interface: Interface, collected: Collected) -> Iterator[Finding]:
    needed = node_topics(interface.parameters)
    for problem in type_problems(needed, collected.types, interface.absolute):
        yield fail("topic", problem)
    parameters = interface.parameters
    optional = {parameters.emergency_stop_topic, parameters.deadman_topic, "instruction"}
    for topic in needed:
        name = interface.absolute(topic.name)
        types = collected.types.get(name, ())
        if topic.sent or topic.name in optional:
            continue
        if not types:
            same = sorted(n for n, kinds in collected.types.items() if topic.type in kinds)
            where = "nobody publishes it" if collected.live else "not in the bag"
            others = f"; topics of this type: {', '.join(same)}" if same else ""
            yield fail(
                "topic",
                f"{name} ({topic.purpose}, {topic.type}): {where}{others}",
                "start its driver, or name the right topic by parameter or -r FROM:=TO",
            )
        elif topic.type in types:
            yield _found(topic, name, types, collected)
    for name, sentences in sorted(collected.malformed.items()):
        sentence, _ = sentences.most_common(1)[0]
        yield fail(
            "topic",
            f"{name}: {sum(sentences.values())} messages cannot be read, such as {sentence}",
            "check the publisher: its message definition or its memory is damaged",
        )


def _found(topic: Topic, name: str, types: Sequence[str], collected: Collected) -> Finding:
    nodes = ", ".join(sorted(e.node for e in collected.publishers.get(name, ())))
    text = f"{name} ({topic.purpose}): {topic.type}{f' from {nodes}' if nodes else ''}"
    others = [kind for kind in types if kind != topic.type]
    if others:
        text = f"{text}; others publish {' and '.join(others)} on it"
        return warn("topic", text, "two types on one topic: rename the other one")
    return ok("topic", text)


def _qos(interface: Interface, collected: Collected) -> Iterator[Finding]:
    """The node hears publishers of every quality of service; its own are volatile."""
    good = []
    for topic in node_topics(interface.parameters):
        name = interface.absolute(topic.name)
        ours = topic.sent and topic.name != "/diagnostics"
        asks = collected.subscribers.get(name, ()) if ours else ()
        bad = [e.node for e in asks if e.durability == "transient_local"]
        why = "subscribes transient local, the node publishes volatile: no message arrives"
        for node in bad:
            yield fail("qos", f"{name}: {node} {why}", "subscribe volatile")
        if not bad and (collected.publishers.get(name) or topic.sent):
            good.append(name)
    if good:
        yield ok("qos", f"compatible: {', '.join(good)}")


def _clock(interface: Interface, collected: Collected) -> Finding:
    clock = collected.clock
    if not collected.live:
        return ok("clock", "the bag's receive times stand for the node's clock")
    if interface.use_sim_time:
        return _simulated_clock(clock)
    if not clock:
        return ok("clock", "wall time; no /clock")
    samples = [*collected.joints, *(s for camera in collected.images.values() for s in camera)]
    stamps = [sample.stamp for sample in samples if sample.stamp]
    middle = np.median(stamps) if stamps else np.nan
    on_clock = abs(middle - clock[len(clock) // 2][1]) < SAME_CLOCK
    on_wall = abs(middle - (collected.start + collected.end) / 2) < SAME_CLOCK
    text = "/clock is published, but use_sim_time is false"
    if on_clock and not on_wall:
        return fail("clock", f"{text}, and the stamps are of /clock", "-p use_sim_time:=true")
    return warn("clock", f"{text}; the stamps are of wall time", "find out who publishes it")


def _simulated_clock(clock: Sequence[tuple[int, int]]) -> Finding:
    """With use_sim_time: (arrival, value) of /clock."""
    if not clock:
        text = "use_sim_time is true and nobody publishes /clock: the node would never tick"
        return fail("clock", text, "publish /clock, or leave use_sim_time out")
    values = np.array([value for _, value in clock])
    if len(clock) > 1 and np.all(values == values[0]):
        text = f"/clock stands still at {values[0] / 1e9:.3f} s"
        return fail("clock", text, "is the simulation or the bag paused?")
    if back := int(np.sum(np.diff(values) < 0)):
        return warn("clock", f"/clock jumped back {back} times", "a looping bag, or two publishers")
    pace = (values[-1] - values[0]) / max(clock[-1][0] - clock[0][0], 1)
    return ok("clock", f"/clock runs at {pace:.2f} of wall time, {len(clock)} messages")
