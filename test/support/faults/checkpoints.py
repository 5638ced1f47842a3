"""Faults of the checkpoint and of the disk, with the real loader and the small checkpoint.

Its actions mean nothing, so these nodes make dry runs: they publish chunks and no trajectories.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.msg import Transition
from tqdm import tqdm

from support.faults.observer import Status
from support.faults.testbed import REAL_NODE
from support.faults.trial import Result
from support.waiting import NotWithin, wait_until

if TYPE_CHECKING:
    from support.faults.testbed import Testbed

WEIGHTS = "model.safetensors"
DRY = {"joint_limits": "", "start_enabled": False, "inference_timeout": 30.0}
DISK_MB = 100
"""Of the disk that is full: enough for what is compiled once it is not."""
SMALLEST = {"depth": 2, "vision_depth": 1, "prompt_length": 16, "num_steps": 1}
"""Sizes of the checkpoint that is compiled: inductor needs minutes for larger ones."""
COMPILING = 600.0
"""Seconds that compiling may take on a slow and busy machine."""


def write_checkpoint(path: Path, **sizes: int) -> None:
    """The small checkpoint, smaller still where sizes are given."""
    from pi0_ros.checkpoint.random import write_random_checkpoint
    from pi0_ros.model.config import TINY

    write_random_checkpoint(path, replace(TINY, **sizes))


class Checkpoint:
    """A checkpoint of the testbed that can be damaged, and the trials on it."""

    def __init__(self, testbed: Testbed, good: Path, name: str = "checkpoint") -> None:
        self.testbed, self.good = testbed, good
        self.path = testbed.folder / name

    def repair(self, truncated: bool = False) -> None:
        """Put the good one in its place at once, or half of it."""
        new = self.path.with_suffix(".new")
        shutil.copytree(self.good, new)
        if truncated:
            self._cut(new)
        if self.path.exists():
            self.delete()
        new.rename(self.path)

    def truncate(self) -> None:
        """Cut the weights in two, in the file itself."""
        self._cut(self.path)

    def _cut(self, path: Path) -> None:
        weights = path / WEIGHTS
        with weights.open("r+b") as file:
            file.truncate(weights.stat().st_size // 2)

    def delete(self) -> None:
        shutil.rmtree(self.path)

    # Before the node has it ---------------------------------------------------------------------

    def try_at_configure(self) -> Result:
        """Start a node on no checkpoint, then half of one, then all: it begins by itself."""
        result = Result("checkpoint missing, then truncated, at configure", meanwhile="no chunk")
        node = self.testbed.start_node(REAL_NODE, checkpoint=str(self.path), **DRY)
        try:
            missing = reported(self.testbed, (str(self.path),))
            self.repair(truncated=True)
            truncated = reported(self.testbed, (WEIGHTS,))
            result.diagnosis = f"{_first(missing)}; {_first(truncated)}"
            self.repair()
            begun = time.monotonic()
            wait_for_chunks(self.testbed)
            result.recovery = time.monotonic() - begun
        except NotWithin as error:
            result.problems.append(str(error))
        if not node.lives():
            result.problems.append(f"the node has ended; {node.tail}")
        return result

    # While it runs ------------------------------------------------------------------------------

    def try_while_running(self, name: str, damage: Callable[[], None]) -> Result:
        """Damage the checkpoint that the node runs: it does not notice."""
        result = Result(name)
        node, before = self.testbed.node, self.testbed.observer.chunks
        try:
            wait_for_chunks(self.testbed)
            damage()
            begun = time.monotonic()
            wait_for_chunks(self.testbed, 10)
            rate = (self.testbed.observer.chunks - before) / (time.monotonic() - begun)
            result.meanwhile = f"{rate:.1f} chunks/s"
        except NotWithin as error:
            result.problems.append(str(error))
        finally:
            self.repair()
        if not node.lives():
            result.problems.append(f"the node has ended with {node.popen.returncode}; {node.tail}")
        return result


def try_checkpoint(testbed: Testbed, good: Path, cycles: int) -> Iterator[Result]:
    """All of them, on one node."""
    checkpoint = Checkpoint(testbed, good)
    yield checkpoint.try_at_configure()
    yield checkpoint.try_while_running("checkpoint deleted while running", checkpoint.delete)
    yield try_cycles(testbed, cycles)
    yield checkpoint.try_while_running("checkpoint truncated while running", checkpoint.truncate)
    testbed.end_node()


def _first(status: Status) -> str:
    """The line of a list of problems that tells most."""
    lines = [line.strip(" -") for line in status.message.splitlines()]
    return lines[1] if len(lines) > 1 and "problem(s)" in lines[0] else lines[0]


def reported(testbed: Testbed, words: tuple[str, ...], patience: float = 90.0) -> Status:
    """The status of /diagnostics that reports a failed configuration."""
    begun = time.monotonic()

    def found() -> Status | None:
        heard = testbed.observer.statuses("observations", begun)
        fits = (s for s in heard if s.level and all(word.lower() in s.text for word in words))
        return next(fits, None)

    return wait_until(found, f"{words} in /diagnostics; {testbed.node.log}", patience)


def wait_for_chunks(testbed: Testbed, count: int = 2, patience: float = 90.0) -> None:
    """Until so many more have come."""
    before = testbed.observer.chunks

    def came() -> bool:
        if not testbed.node.lives():
            raise NotWithin("chunks: the node has ended")
        return testbed.observer.chunks >= before + count

    wait_until(came, lambda: f"chunks; {testbed.node.tail}", patience)


# The life cycle, over and over ------------------------------------------------------------------


def change(testbed: Testbed, transition: int) -> None:
    """A transition of the node."""
    if not testbed.observer.change("pi0", transition):
        raise NotWithin(f"transition {transition}; {testbed.node.tail}")


def try_cycles(testbed: Testbed, count: int, warm_up: int = 3) -> Result:
    """Deactivate, clean up, configure and activate the node that runs, so many times.

    Memory, threads and open files have to be flat after the first few.
    """
    result = Result(f"{count} life cycles of the small checkpoint")
    node, figures = testbed.node, []
    try:
        for cycle in tqdm(range(count), "life cycles", unit="cycle", leave=False):
            for transition in (
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
            ):
                change(testbed, transition)
            if cycle % max(1, count // 20) == 0 or cycle == count - 1:
                wait_for_chunks(testbed)
                figures.append((cycle, node.figures()))
        begun = time.monotonic()
        wait_for_chunks(testbed)
        result.recovery = time.monotonic() - begun
    except NotWithin as error:
        result.problems.append(str(error))
    if not node.lives():
        result.problems.append(f"the node has ended; {node.tail}")
    flat = [now for cycle, now in figures if cycle >= min(warm_up, count - 1)]
    if flat:
        first, last = flat[0], flat[-1]
        result.note = ", ".join(f"{key} {first[key]:.0f} -> {last[key]:.0f}" for key in first)
        # A cycle that leaked its weights would leave 3 MB, a leaked thread or socket is one more.
        allowed = {"rss_mb": max(30.0, 0.02 * count), "threads": 2, "files": 5}
        for key, most in allowed.items():
            if last[key] - first[key] > most:
                result.problems.append(f"{key} grew from {first[key]:.1f} to {last[key]:.1f}")
    return result


# The disk ---------------------------------------------------------------------------------------


def can_make_a_disk() -> bool:
    """Whether this user may mount a small file system in a namespace of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def try_full_disk(testbed: Testbed, good: Path) -> Result:
    """A compile cache on a disk that is full, until space is made.

    The disk is a tmpfs of the node's own, in a mount namespace that needs no root.
    """
    result = Result("disk full at the compile cache", meanwhile="no chunk")
    disk = testbed.folder / "disk"
    disk.mkdir()
    mount = (
        f"mount -t tmpfs -o size={DISK_MB}m tmpfs {disk}"
        f" && (cat /dev/zero > {disk}/others 2>/dev/null; true) && exec"
    )
    shell = ("unshare", "-rm", "sh", "-c", f'{mount} "$0" "$@"', *REAL_NODE)
    given: dict[str, Any] = {**DRY, "checkpoint": str(good), "graph_cache": str(disk)}
    node = testbed.start_node(shell, graph="inductor", **given)
    try:
        status = reported(testbed, ("no space left",), COMPILING)
        result.diagnosis = next(line for line in status.message.splitlines() if "No space" in line)
        Path(f"/proc/{node.pid}/root{disk}/others").unlink()
        begun = time.monotonic()
        wait_for_chunks(testbed, patience=COMPILING)
        result.recovery = time.monotonic() - begun
    except NotWithin as error:
        result.problems.append(str(error))
    if not node.lives():
        result.problems.append(f"the node has ended; {node.tail}")
    return result
