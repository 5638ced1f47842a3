"""One deterministic replay: a recording in, the same result files to the byte every time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_ros import console
from pi0_ros.bags.bag import Message
from pi0_ros.bags.messages import CHUNK_TYPE, encode
from pi0_ros.bags.results import FIGURES, Results
from pi0_ros.bags.writer import BagWriter
from pi0_ros.errors import UserError
from pi0_ros.node.preflight import load_check, load_limits
from pi0_ros.replay.again import Again
from pi0_ros.replay.case import Case
from pi0_ros.replay.outputs import Outputs, output_topics
from pi0_ros.replay.report import make_report
from pi0_ros.replay.results import claim_results, plot_results
from pi0_ros.replay.steps import Moved, SeededPolicy, Steps


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


def replay_steps(
    case: Case,
    policy: SeededPolicy,
    out: Path,
    options: Options,
    *,
    recording: str,
    overwrite: bool = False,
) -> tuple[dict[str, Any], str]:
    """Steps through a recording; leaves `out`/bag, `out`/figures.json and `out`/chunks.png.

    Args:
        case: checked by `check_case`.
        recording: its name in the figures.

    Returns:
        The figures, with wall times, which the files do not have; the hash of what was played.

    Raises:
        UserError: `out` holds results already, the recording is damaged, or what `options` ask
            for cannot be had.
    """
    steps = _steps(case, policy, options)
    claim_results(out, case.bag, overwrite)
    joints = case.parameters.joint_names
    chunk_topic = case.interface.absolute("~/action_chunk")
    topics = {chunk_topic: CHUNK_TYPE}
    if options.enable:
        topics |= output_topics(case.interface)
    digest = hashlib.sha256()
    chunks, outputs = [], None
    with BagWriter(out / "bag", case.bag.storage, topics) as writer:
        if options.enable:
            outputs = Outputs(case.interface, load_limits(case.parameters), writer.write)
        for event in steps.run(_played(case, digest)):
            if outputs is not None:
                outputs.sample_until(event.time)
            if isinstance(event, Moved):
                outputs.send(event)
            else:
                chunks.append(event.record(joints))
                writer.write(chunk_topic, event.time, encode(chunks[-1].message()))
        if outputs is not None:
            outputs.sample_until()
    good = [chunk for chunk in chunks if not chunk.rejected]
    report = make_report(
        recording,
        None,
        steps.playback,
        case.cameras,
        good,
        len(good),
        outputs.trajectories if outputs is not None else 0,
        steps.counters,
        [*_warnings(steps), *plot_results(out, case, good, steps.playback.start)],
    )
    # Wall times differ from run to run.
    timeless = {"inference_ms": console.percentiles(())}
    asked = {"latency_s": options.latency, "enabled": options.enable, "units": case.units}
    console.write_json(out / FIGURES, report | timeless | asked)
    return report, digest.hexdigest()


def _steps(case: Case, policy: SeededPolicy, options: Options) -> Steps | Again:
    """What goes through the recording: the node's ticks, or given chunks once more."""
    limits = load_limits(case.parameters)
    if options.again is not None:
        _check_again(options, options.again, case)
        return Again(case.interface, case.topics, policy, options.again.chunks)
    if options.enable and limits is None:
        raise UserError("--enable: trajectories need limits; give a file as joint_limits")
    return Steps(
        case.interface,
        case.topics,
        policy,
        limits=limits,
        check=load_check(case.parameters, limits),
        enable=options.enable,
        latency=options.latency,
    )


def _check_again(options: Options, results: Results, case: Case) -> None:
    if options.enable or options.latency:
        raise UserError(
            "--again computes chunks when their observations come up: neither --enable nor"
            " --latency go with it"
        )
    chunks = [timed.chunk for timed in results.chunks]
    if any(chunk.rtc for chunk in chunks):
        raise UserError(
            f"--again {results.path}: its chunks were made to agree with a trajectory that is not"
            " in it (real-time chunking): give results of a replay with rtc off"
        )
    parameters = case.parameters
    for what, found, wanted in (
        ("seed", {chunk.seed for chunk in chunks}, parameters.seed),
        ("joints", {chunk.joint_names for chunk in chunks}, parameters.joint_names),
        ("cameras", {chunk.camera_names for chunk in chunks}, parameters.camera_names),
    ):
        if found != {wanted}:
            there = " and ".join(str(value) for value in sorted(found))
            raise UserError(
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
            " lacks images or joint states of theirs"
        )
    if steps.latched:
        yield f"no trajectory came after this: {steps.latched}"


def _played(case: Case, digest: Any) -> Iterator[Message]:
    """The messages, while a bar shows how far they are.

    The digest gets what each is played on, when it was received and its bytes.
    """
    start, end = case.bag.start, case.bag.end
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s, {elapsed} passed"
    with console.progress(desc="Replaying", total=(end - start) / 1e9, bar_format=layout) as bar:
        for message in case.bag.messages(case.types):
            name = case.topics[message.topic].name
            digest.update(f"{name} {message.time} {len(message.data)}\n".encode())
            digest.update(message.data)
            bar.update(min(message.time, end) / 1e9 - start / 1e9 - bar.n)
            yield message
        bar.update(bar.total - bar.n)
