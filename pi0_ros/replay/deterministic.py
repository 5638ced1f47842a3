"""One deterministic replay: a recording in, the same result files to the byte every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pi0_ros.bags.bag import Message, joint_positions, read_messages
from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.bags.messages import TRAJECTORY_TYPE, encode_chunk, encode_trajectory
from pi0_ros.bags.results import Results
from pi0_ros.bags.writer import CHUNK_TYPE, BagWriter
from pi0_ros.node.interface import Topic
from pi0_ros.replay.again import Again
from pi0_ros.replay.offline import Offline
from pi0_ros.replay.replay import NO_PICTURE, plotter, prepare
from pi0_ros.replay.report import Percentiles, Report, make_report, report_json
from pi0_ros.replay.steps import Moved, Published, SeededPolicy, Steps
from pi0_ros.ros.process import NodeError

FIGURES = "figures.json"


@dataclass(frozen=True)
class Options:
    """What a deterministic replay is asked for besides parameters.

    Attributes:
        enable: make trajectories, which needs limits.
        latency: seconds from a tick to the publication of its chunk.
        again: results whose chunks are computed again, each from its own observation and noise.
    """

    enable: bool = False
    latency: float = 0.0
    again: Results | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished replay.

    Attributes:
        report: with wall times, which the files do not have.
        messages: hash of the messages that were played.
    """

    report: Report
    messages: str


def replay_steps(
    offline: Offline,
    policy: SeededPolicy,
    out: Path,
    options: Options,
    *,
    recording: str,
    overwrite: bool = False,
    progress: bool = True,
    interrupted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Steps through a recording; leaves `out`/bag, `out`/figures.json and `out`/chunks.png.

    Args:
        recording: its name in the figures.
        interrupted: asked at every message; True ends the replay.

    Raises:
        FileExistsError: `out` holds results already.
        BagError: the recording is damaged.
        NodeError: what `options` ask for cannot be had.
        KeyboardInterrupt: `interrupted` said so.
    """
    parameters, interface = offline.parameters, offline.interface
    steps = _steps(offline, policy, options)
    plot_chunks = plotter()
    results = prepare(out, offline.bag, overwrite)
    (out / FIGURES).unlink(missing_ok=True)
    topics = {interface.absolute("~/action_chunk"): CHUNK_TYPE}
    if options.enable:
        topics[interface.absolute("~/joint_trajectory")] = TRAJECTORY_TYPE
    digest = hashlib.sha256()
    chunks: list[ChunkRecord] = []
    moved = 0
    with (
        BagWriter(results, offline.bag.storage, topics) as writer,
        _bar(offline, progress) as on_message,
    ):
        messages = _played(offline, digest, on_message, interrupted)
        for event in steps.run(messages):
            if isinstance(event, Moved):
                data = encode_trajectory(event.trajectory, parameters.joint_names)
                writer.write(interface.absolute("~/joint_trajectory"), event.time, data)
                moved += 1
            else:
                data = encode_chunk(
                    event.chunk,
                    event.snapshot,
                    parameters.joint_names,
                    event.time,
                    event.executed,
                )
                writer.write(interface.absolute("~/action_chunk"), event.time, data)
                chunks.append(record(event, parameters.joint_names))
    report = make_report(
        recording,
        None,
        steps.playback,
        offline.cameras(),
        chunks,
        len(chunks),
        moved,
        steps.counters,
        [*_warnings(steps), *([] if plot_chunks else [NO_PICTURE])],
    )
    (out / FIGURES).write_text(json.dumps(_figures(report, options), indent=2) + "\n")
    if chunks and plot_chunks:
        recorded = joint_positions(offline.bag, offline.joint_states())
        start = steps.playback.start
        plot_chunks(out / "chunks.png", chunks, recorded, start, offline.bag.path.name)
    return Outcome(report, digest.hexdigest())


def record(event: Published, joints: Iterable[str]) -> ChunkRecord:
    """A published chunk as a replay over DDS records it, with the wall time it took."""
    chunk, snapshot = event.chunk, event.snapshot
    return ChunkRecord(
        stamp=chunk.stamp,
        sequence=chunk.sequence,
        instruction=snapshot.instruction,
        joint_names=tuple(joints),
        positions=chunk.positions,
        dt=chunk.dt,
        camera_ages=tuple((event.time - s) / 1e9 for s in snapshot.image_stamps.values()),
        inference_time=event.seconds,
        seed=chunk.seed,
        camera_names=tuple(snapshot.image_stamps),
        joint_states_age=(event.time - snapshot.state_stamp) / 1e9,
    )


def _figures(report: Report, options: Options) -> dict[str, Any]:
    """The figures that depend on the inputs alone."""
    timeless = replace(report, inference=Percentiles(None, None))
    return {**report_json(timeless), "latency_s": options.latency, "enabled": options.enable}


def _may_enable(offline: Offline, enable: bool) -> bool:
    if not enable:
        return False
    if offline.limits is None:
        raise NodeError("--enable: trajectories need limits; give a file as joint_limits")
    try:
        import trajectory_msgs.msg  # noqa: F401
    except ModuleNotFoundError as error:
        raise NodeError(
            f"--enable: trajectories need ROS's messages ({error}); without it chunks only"
        ) from error
    return True


def _steps(offline: Offline, policy: SeededPolicy, options: Options) -> Steps | Again:
    """What goes through the recording: the node's ticks, or given chunks once more."""
    parameters, needed = offline.parameters, offline.interface.observed
    if options.again is not None:
        _check_again(options, options.again, offline)
        return Again(parameters, needed, offline.topics, policy, options.again.chunks)
    return Steps(
        parameters,
        needed,
        offline.topics,
        policy,
        limits=offline.limits,
        enable=_may_enable(offline, options.enable),
        latency=options.latency,
    )


def _check_again(options: Options, results: Results, offline: Offline) -> None:
    if options.enable or options.latency:
        raise NodeError(
            "--again computes chunks when their observations come up: neither --enable nor"
            " --latency go with it"
        )
    chunks = [timed.chunk for timed in results.chunks]
    parameters = offline.parameters
    for what, found, wanted in (
        ("seed", {chunk.seed for chunk in chunks}, parameters.seed),
        ("joints", {chunk.joint_names for chunk in chunks}, parameters.joint_names),
        ("cameras", {chunk.camera_names for chunk in chunks}, parameters.camera_names),
    ):
        if found != {wanted}:
            there = " and ".join(str(value) for value in sorted(found))
            raise NodeError(
                f"--again {results.path}: its chunks were made with {what} {there}, the parameters"
                f" say {wanted}"
            )


def _warnings(steps: Steps | Again) -> Iterator[str]:
    """What the table's numbers do not say: why observations were refused."""
    start = steps.playback.start
    for reason, (at, detail) in sorted(steps.first_refused.items()):
        if reason != "missing" or at > start + 1_000_000_000:
            yield f"refused ({reason}), first after {(at - start) / 1e9:.2f} s: {detail}"
    if isinstance(steps, Again) and steps.missed + len(steps.wanted):
        yield (
            f"{steps.missed + len(steps.wanted)} chunks were not computed again: this recording"
            " lacks pictures or joint states of theirs"
        )
    if steps.latched:
        yield f"no trajectory came after this: {steps.latched}"


def _played(
    offline: Offline,
    digest: Any,
    on_message: Callable[[int], None],
    interrupted: Callable[[], bool],
) -> Iterator[Message]:
    for message in read_messages(offline.bag, offline.types()):
        if interrupted():
            raise KeyboardInterrupt
        add_to(digest, message, offline.topics[message.topic])
        on_message(message.time)
        yield message


def add_to(digest: Any, message: Message, need: Topic) -> None:
    """Adds a message to a hash: what it is played on, when it was received, its bytes."""
    digest.update(f"{need.name} {message.time} {len(message.data)}\n".encode())
    digest.update(message.data)


@contextmanager
def _bar(offline: Offline, progress: bool) -> Iterator[Callable[[int], None]]:
    start, end = offline.bag.start, offline.bag.end
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s, {elapsed} passed"
    with tqdm(
        desc="Replaying", total=(end - start) / 1e9, bar_format=layout, disable=not progress
    ) as bar:
        yield lambda time: bar.update(min(time, end) / 1e9 - start / 1e9 - bar.n)
        bar.update(bar.total - bar.n)
