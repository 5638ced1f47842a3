"""The policy in a process of its own: its Python takes no time from its owner's callbacks.

rclpy holds the GIL while it takes an image, and a model holds it between its operators; in two
processes neither waits for the other. A model that hangs can be ended besides.

The process is started with subprocess, which like multiprocessing's `spawn` runs a fresh
interpreter, but does not import the program's main module a second time and pickles nothing.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np

from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.serve.channel import Channel, ChannelClosed, SharedImages
from pi0_ros.serve.load import LoadArguments

LOAD_POLICY = "pi0_ros.serve.load:load_policy"

RESTART_PERIOD = 5.0
"""Seconds from one start of the process to the next, at least."""

_END_LIMIT = 2.0  # seconds that the process gets to end by itself
_START = (
    "import sys; fds = map(int, sys.argv[1:4]); sys.path[:] = sys.argv[4:];"
    "from pi0_ros.serve.server import main; main(*fds)"
)


class RemoteError(RuntimeError):
    """Something raised in the policy's process.

    Its class is named after the one over there, and is a ValueError if that was one, so that it
    reads the same here; the traceback from there is its cause.
    """


class PolicyEnded(RuntimeError):
    """The policy's process has ended, or had, and so there is no chunk."""


class PolicyProcess:
    """Has the methods of `pi0_ros.policy.policy.Policy`; another process does the work.

    One thread uses it, but for `kill`, which any thread may call. The model's `threads` and the
    environment's (OMP_NUM_THREADS) count in the process as they would here.

    Attributes:
        horizon, device, rtc_max_delay: of the policy; see `pi0_ros.policy.policy.Policy`.
        loading: whether the process is starting: this may take minutes, and is no hung inference.
        starts: how often the process was started.
    """

    def __init__(self, arguments: LoadArguments, load: str = LOAD_POLICY) -> None:
        """Start the process and load; returns when the policy is warm.

        Args:
            load: "module:function", importable by the process; takes the arguments.

        Raises:
            RemoteError: loading failed.
            PolicyEnded: the process ended while it loaded.
        """
        self._arguments, self._load = arguments, load
        self._child: _Child | None = None
        self._fate = "was not started"
        self._started_at = 0.0
        self.loading = False
        self.starts = 0
        self._start()

    @property
    def pid(self) -> int | None:
        """Of the process, if it lives."""
        child = self._child
        return child.pid if child is not None and child.lives() else None

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """As `Policy.infer`; starts the process again if it has ended.

        Raises:
            RemoteError: the policy raised.
            PolicyEnded: the process ended meanwhile; or it was only now started again, which made
                the observation an old one.
        """
        self._revive()
        question = {"do": "infer", **self._child.share(observation)}
        if prefix is not None:
            question["prefix"] = prefix_as_json(prefix)
        answer, data = self._child.ask(question)
        positions = np.frombuffer(data, np.float32).reshape(answer["shape"]).copy()
        return ActionChunk(
            positions=positions,
            dt=answer["dt"],
            stamp=answer["stamp"],
            sequence=answer["sequence"],
            seed=answer["seed"],
            stage_times=answer["stage_times"],
        )

    def reset(self) -> None:
        """Begin a new episode, as a policy that is started again does by itself."""
        if self.pid is not None:
            self._child.ask({"do": "reset"})

    def kill(self) -> None:
        """End the process at once, from any thread; an `infer` that waits for it raises."""
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the process, which frees its memory."""
        child, self._child = self._child, None
        if child is not None:
            self._fate = "was closed"
            child.end(_END_LIMIT)

    def _revive(self) -> None:
        """See that there is a process.

        Raises:
            PolicyEnded: there was none; unless it was started just now, there is one again.
        """
        if self.pid is not None:
            return
        fate = self._child.fate() if self._child is not None else self._fate
        wait = self._started_at + RESTART_PERIOD - time.monotonic()
        if wait > 0:
            raise PolicyEnded(f"the policy's process {fate}; it starts again in {wait:.1f} s")
        begun = time.monotonic()
        self._start()
        taken = time.monotonic() - begun
        raise PolicyEnded(
            f"the policy's process {fate}; it was started again in {taken:.1f} s, and the"
            " observation is too old now"
        )

    def _start(self) -> None:
        self.close()
        self.loading = True
        self._started_at = time.monotonic()
        self.starts += 1
        try:
            self._child = _Child()
            arguments = dataclasses.asdict(self._arguments)
            question = {"do": "load", "load": self._load, "arguments": arguments}
            policy, _ = self._child.ask(question)
        except BaseException as error:
            self.close()
            self._fate = f"did not load the policy: {error}"
            raise
        finally:
            self.loading = False
        self.horizon: int = policy["horizon"]
        self.device: str = policy["device"]
        self.rtc_max_delay: int = policy["rtc_max_delay"]


def prefix_as_json(prefix: ActionPrefix) -> dict[str, Any]:
    """A prefix as JSON values; see `server.prefix_from_json`."""
    arrays = {"positions": prefix.positions.tolist(), "weights": prefix.weights.tolist()}
    return {**vars(prefix), **arrays}


class _Child:
    """One run of the process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        read_end, self._lifeline = os.pipe()
        memory = os.memfd_create("pi0_images", os.MFD_CLOEXEC)
        given = (theirs.fileno(), read_end, memory)
        paths = [path or os.getcwd() for path in sys.path]
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _START, *map(str, given), *paths],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                # Ctrl-C in a terminal is for the owner, which ends this process.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            for descriptor in (self._lifeline, memory):
                os.close(descriptor)
            raise
        finally:
            theirs.close()
            os.close(read_end)
        self._channel = Channel(ours)
        self._images = SharedImages(memory)
        self._killed = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    def lives(self) -> bool:
        return not self._killed and self._popen.poll() is None

    def share(self, observation: Observation) -> dict[str, Any]:
        """Put the images where the process sees them; returns the rest of the observation."""
        state = np.asarray(observation.state)
        return {
            "images": self._images.write(observation.images),
            "state": state.tolist(),
            "dtype": state.dtype.str,
            "instruction": observation.instruction,
            "stamp": observation.stamp,
        }

    def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer to a question.

        Raises:
            RemoteError: answering raised.
            PolicyEnded: the process ended instead.
        """
        try:
            self._channel.send(question)
            answer, data = self._channel.receive()
        except ChannelClosed as error:
            self._reap(_END_LIMIT)
            raise PolicyEnded(f"the policy's process {self.fate()}") from error
        if "error" in answer:
            raise _remote_error(answer["error"])
        return answer, data

    def fate(self) -> str:
        """What became of the process, in words."""
        if self._killed:
            return "was killed: it did not answer"
        status = self._popen.poll()
        if status is None:
            return "closed its channel"
        if status >= 0:
            return f"ended with status {status}"
        hint = "; out of memory?" if status == -signal.SIGKILL else ""
        return f"was ended by signal {-status} ({signal.strsignal(-status)}{hint})"

    def kill(self) -> None:
        self._killed = True
        self._popen.kill()
        # A process that hangs in a driver does not even die: nobody is to wait for it.
        self._channel.shutdown()

    def end(self, limit: float) -> None:
        """End the process: by itself within `limit` seconds, or else killed; free what is ours."""
        self._channel.shutdown()
        self._reap(limit)
        self._channel.close()
        self._images.close()
        os.close(self._lifeline)

    def _reap(self, limit: float) -> None:
        try:
            self._popen.wait(limit)
        except subprocess.TimeoutExpired:
            self._popen.kill()


def _remote_error(described: dict[str, Any]) -> RemoteError:
    bases = (RemoteError, ValueError) if described["is_value_error"] else (RemoteError,)
    error = type(described["type"], bases, {})(described["text"])
    error.__cause__ = RemoteError(f"in the policy's process:\n{described['trace']}")
    return error
