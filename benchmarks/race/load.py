"""Times that are not those of an inference: loading from disk, images, the start of the node."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race.machine import least_seconds
from benchmarks.race.race import BenchError, Entry, Process
from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY
from pi0_ros.policy.preprocess import fit_image

_CHUNK = 16 * 2**20
_READY = "ready: ticks at"


@dataclass(frozen=True)
class Load:
    """Loading a checkpoint that is in no cache.

    Attributes:
        ready_s: until the first inference, which reads what is mapped, is as fast as the others:
            loading, and what the first inference takes longer than the second.
        read_s: reading the same number of bytes of the same file, which is the disk's bound.
        bytes: read by loading and the first inference: weights that are needed.
    """

    ready_s: float
    read_s: float
    bytes: int


def measure_load(entry: Entry, job: dict[str, Any], needed: int) -> Load:
    """Load with the file out of the page cache, then read it with plain calls, out of it again."""
    file = Path(job["checkpoint"]) / "model.safetensors"
    _forget(file)
    with Process(entry, job, job["threads"]) as process:
        first, second = (process.ask({"do": "infer"})["wall_s"] for _ in range(2))
        ready = process.loaded["load_s"] + max(0.0, first - second)
    _forget(file)
    start, left = time.perf_counter(), needed
    with file.open("rb", buffering=0) as stream:
        while left > 0 and (block := stream.read(min(_CHUNK, left))):
            left -= len(block)
    return Load(ready, time.perf_counter() - start, needed)


def _forget(file: Path) -> None:
    """Ask the system to drop the file's pages from its cache."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def image_seconds() -> float:
    """CPU seconds of fitting two 640 x 480 images into the published model's square."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(2)]
    rule = ImageRule(antialias=False, centred=True)
    return least_seconds(lambda: [fit_image(image, 224, rule) for image in images], 50)


@dataclass(frozen=True)
class Start:
    """The start of `pi0_node` with a tiny checkpoint, imports included.

    Attributes:
        wall_s: from calling it until it is active.
        cpu_s: CPU time of its process until it has ended again, a little more than that.
    """

    wall_s: float
    cpu_s: float


def measure_start(scratch: Path, limit: float = 60.0) -> Start | None:
    """Start `pi0_node` with the demo checkpoint. None where there is no such command.

    Raises:
        BenchError: it does not become active.
    """
    command = shutil.which("pi0_node")
    if command is None:
        return None
    checkpoint = scratch / "demo"
    write_random_checkpoint(checkpoint, TINY)
    parameters = ["cameras:=[front, wrist]", "device:=cpu", "autostart:=true"]
    parameters += [
        "joints:=[shoulder_pan, shoulder_lift, elbow_flex, wrist_flex, wrist_roll, gripper]",
        f"checkpoint:={checkpoint}",
        "action_dt:=0.02",
    ]
    arguments = [part for value in parameters for part in ("-p", value)]
    env = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        [command, "--ros-args", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    timer = threading.Timer(limit, process.kill)
    timer.start()
    lines, ready = [], None
    try:
        for line in process.stdout or ():
            lines.append(line)
            if _READY in line:
                ready = time.perf_counter() - start
                break
    finally:
        timer.cancel()
        process.send_signal(signal.SIGINT)
        process.communicate()
    if ready is None:
        raise BenchError("pi0_node did not become active:\n" + "".join(lines[-20:]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return Start(ready, spent)
