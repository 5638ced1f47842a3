"""Time and memory of one way to run the model, each in a process of its own.

Compilers of one device do not all work beside each other, memory that was freed may not come back,
and a process that ends by a signal must not take the check with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.check.runner import Result, Row
from pi0_ros.check.subject import Inference, Subject, cosine, find_subject
from pi0_ros.console import percentiles
from pi0_ros.policy.compile import GraphOptions

LEAST, MOST, WARM_UP = 5, 200, 3
"""Inferences that are timed, between so many; and those before them."""
SECONDS = {"tiny": 1.0, "full": 20.0}
"""Size of the model -> for how long at most, beyond the least."""


@dataclass(frozen=True)
class Way:
    """One way to run the model.

    Attributes:
        name: of its row, log and files.
        options: keyword arguments of `GraphOptions`, without the cache.
        seconds: with less it is not tried.
        least_cosine: of its actions beside those of the first way, which has the same weights.
        profile: inferences to profile behind the timing.
    """

    name: str
    options: dict[str, Any]
    seconds: float = 10.0
    least_cosine: float = 0.9999
    profile: int = 0


def speed_rows(
    subject: Subject,
    ways: Sequence[Way],
    explain: Callable[[Subject, dict[str, Any]], str] | None = None,
) -> Iterator[Row]:
    """A row per way; the first one's actions are what those of the others are compared with.

    Args:
        explain: a profile, as `report_json` has it, in words.
    """
    first: list[torch.Tensor] = []
    for way in ways:

        def measure(left: float, way: Way = way) -> Result:
            figures = _in_a_process(subject, way, left)
            actions = torch.from_numpy(np.load(subject.raw / f"{_file(way)}.npy"))
            first.append(actions)
            alike = cosine(actions, first[0])
            text = (
                f"p50 {figures['p50'] * 1e3:8.2f} ms  p99 {figures['p99'] * 1e3:8.2f} ms  "
                f"ready {figures['ready']:6.1f} s  {figures['memory'] / 1e9:5.2f} GB"
            )
            if len(first) > 1:
                text += f"  cosine {alike:.6f}"
            if explain is not None and "profile" in figures:
                text += f"\n    {explain(subject, figures['profile'])}"
            figures = {**figures, "cosine": alike, "options": way.options}
            return Result(text, figures, None if alike >= way.least_cosine else False)

        yield Row("speed", way.name, measure, way.seconds)


def _in_a_process(subject: Subject, way: Way, left: float) -> dict[str, Any]:
    """What `main` prints.

    Raises:
        RuntimeError: it took too long or failed; with its last words.
    """
    subject.raw.mkdir(parents=True, exist_ok=True)
    job = {**subject.described(), "model": subject.model, "size": subject.size}
    job |= {"raw": str(subject.raw), "way": asdict(way), "seconds": SECONDS[subject.size]}
    log = subject.raw / f"{_file(way)}.log"
    command = [sys.executable, "-m", "pi0_ros.check.speed", json.dumps(job)]
    with log.open("w") as errors:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            printed, _ = child.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done in the {left:.0f} s left; its log: {log.name}") from None
        finally:
            # Compilers have processes of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    lines = printed.strip().splitlines()
    if child.returncode or not lines:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"ended with status {child.returncode}: {last}; its log: {log.name}")
    return json.loads(lines[-1])


def main(text: str) -> None:
    """Measure one way; the last line printed is a JSON object of its figures."""
    job = json.loads(text)
    way = Way(**job["way"])
    subject = find_subject(argparse.Namespace(**job), Path(job["raw"]))
    device = subject.device
    start = time.perf_counter()
    graphs = subject.graphs(GraphOptions(**way.options), drawn_on=device)
    inference = Inference(graphs, subject.cameras)
    loaded = time.perf_counter()
    np.save(subject.raw / f"{_file(way)}.npy", inference.infer().numpy())
    ready = time.perf_counter()
    for _ in range(WARM_UP):
        inference.infer()
    times = []
    begin = last = time.perf_counter()
    while len(times) < LEAST or (len(times) < MOST and last - begin < job["seconds"]):
        inference.infer()  # ends with a copy to the host, for which it waits
        now = time.perf_counter()
        times.append(now - last)
        last = now
    figures = {
        **percentiles(times, (50, 99)),
        "inferences": len(times),
        "load": loaded - start,
        "ready": ready - loaded,
        "memory": memory(device),
        "graph": graphs.options.graph,
    }
    if way.profile:
        from pi0_ros.profile.report import report_json
        from pi0_ros.profile.run import profile_policy

        folder = subject.raw / _file(way)
        report = profile_policy(inference, None, way.profile, folder, device=str(device), warm_up=0)
        figures["profile"] = report_json(report)
    print(json.dumps(figures))


def memory(device: torch.device) -> int:
    """Most bytes that this process had on the device; on a CPU, of the host's memory."""
    if device.type == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(getattr(torch, device.type).max_memory_allocated(device))


def _file(way: Way) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in way.name)


if __name__ == "__main__":
    main(sys.argv[1])
