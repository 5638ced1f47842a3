"""Judging topics, quality of service and clock: pure functions of what was heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.samples import Collected, Settings
from pi0_ros.node.preflight import Topic, node_topics, type_problems


def judge_graph(settings: Settings, collected: Collected) -> list[Finding]:
    """What is there, of which type, whether it can be heard, and what time it is."""
    return [
        *_topics(settings, collected),
        *_qualities(settings, collected),
        *_clock(settings, collected),
    ]


def _topics(settings: Settings, collected: Collected) -> Iterator[Finding]:
    needed = node_topics(settings.parameters)
    for problem in type_problems(needed, collected.types, settings.names.__getitem__):
        yield Finding(FAIL, "topic", problem)
    optional = {settings.parameters.emergency_stop_topic, settings.parameters.deadman_topic}
    for topic in needed:
        name = settings.names[topic.name]
        types = collected.types.get(name, ())
        if topic.sent or topic.name in optional or topic.name == "instruction":
            continue
        if not types:
            same = sorted(n for n, kinds in collected.types.items() if topic.type in kinds)
            where = "nobody publishes it" if collected.live else "not in the bag"
            others = f"; of this type there are {', '.join(same)}" if same else ""
            yield Finding(
                FAIL,
                "topic",
                f"{name} ({topic.purpose}, {topic.type}): {where}{others}",
                "start its driver, or name the right topic by parameter or -r FROM:=TO",
            )
        elif topic.type in types:
            yield _found(topic, name, types, collected)
    for name, sentences in sorted(collected.malformed.items()):
        sentence, _ = sentences.most_common(1)[0]
        yield Finding(
            FAIL,
            "topic",
            f"{name}: {sum(sentences.values())} messages cannot be read, such as {sentence}",
            "look at the publisher: its message definition or its memory is damaged",
        )


def _found(topic: Topic, name: str, types: Sequence[str], collected: Collected) -> Finding:
    nodes = ", ".join(sorted(e.node for e in collected.publishers.get(name, ())))
    text = f"{name} ({topic.purpose}): {topic.type}{f' from {nodes}' if nodes else ''}"
    if len(types) > 1:
        strange = [kind for kind in types if kind != topic.type]
        return Finding(
            WARN,
            "topic",
            f"{text}; others publish {' and '.join(strange)} on it",
            "two types on one topic: rename the other one",
        )
    return Finding(PASS, "topic", text)


def _qualities(settings: Settings, collected: Collected) -> Iterator[Finding]:
    """The node asks for reliable instructions and stops, and for best effort of the rest."""
    if not collected.live:
        return
    reliable = {"instruction", settings.parameters.emergency_stop_topic}
    good = []
    for topic in node_topics(settings.parameters):
        name = settings.names[topic.name]
        bad = []
        if topic.name in reliable:
            offers = collected.publishers.get(name, ())
            bad = [e.node for e in offers if e.reliability == "best_effort"]
            why = "publishes best effort, the node subscribes reliably: nothing gets through"
            advice = "publish reliably"
        elif topic.sent and topic.name.startswith("~"):
            asks = collected.subscribers.get(name, ())
            bad = [e.node for e in asks if e.durability == "transient_local"]
            why = "asks for transient local, the node publishes volatile: nothing gets through"
            advice = "subscribe volatile"
        for node in bad:
            yield Finding(FAIL, "qos", f"{name}: {node} {why}", advice)
        if not bad and (collected.publishers.get(name) or topic.sent):
            good.append(name)
    if good:
        yield Finding(PASS, "qos", f"compatible: {', '.join(good)}")


def _clock(settings: Settings, collected: Collected) -> Iterator[Finding]:
    if not collected.live:
        yield Finding(PASS, "clock", "the bag's receive times stand for the node's clock")
        return
    clock = collected.clock
    if settings.use_sim_time:
        if not clock:
            text = "use_sim_time is true and nobody publishes /clock: the node would never tick"
            yield Finding(FAIL, "clock", text, "publish /clock, or leave use_sim_time out")
            return
        values = np.array([value for _, value in clock])
        if len(clock) > 1 and np.all(values == values[0]):
            text = f"/clock stands still at {values[0] / 1e9:.3f} s"
            yield Finding(FAIL, "clock", text, "is the simulation or the bag paused?")
        elif np.any(np.diff(values) < 0):
            text = f"/clock jumped back {int(np.sum(np.diff(values) < 0))} times"
            yield Finding(WARN, "clock", text, "a looping bag, or two publishers of /clock")
        else:
            pace = (values[-1] - values[0]) / max(clock[-1][0] - clock[0][0], 1)
            text = f"/clock runs at {pace:.2f} of wall time, {len(clock)} messages"
            yield Finding(PASS, "clock", text)
        return
    if not clock:
        yield Finding(PASS, "clock", "wall time; no /clock")
        return
    samples = [*collected.joints, *(s for camera in collected.images.values() for s in camera)]
    stamps = [sample.stamp for sample in samples if sample.stamp]
    on_clock = stamps and abs(np.median(stamps) - clock[len(clock) // 2][1]) < 10e9
    on_wall = stamps and abs(np.median(stamps) - (collected.start + collected.end) / 2) < 10e9
    text = "/clock is published, but use_sim_time is false"
    if on_clock and not on_wall:
        yield Finding(
            FAIL, "clock", f"{text}, and the stamps are of /clock", "-p use_sim_time:=true"
        )
    else:
        yield Finding(WARN, "clock", f"{text}; the stamps are of wall time", "who publishes it?")
