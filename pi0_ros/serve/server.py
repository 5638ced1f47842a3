"""The policy's own process: loads a policy and answers the questions of `PolicyProcess`.

No ROS here: what a node subscribes to and publishes stays in the node's process.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import select
import signal
import socket
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.serve.channel import Channel, ChannelClosed, SharedImages
from pi0_ros.serve.load import LoadArguments


class Server:
    """Answers one question after the other, in the thread that loaded the policy."""

    def __init__(self, channel: Channel, images: SharedImages) -> None:
        self._channel = channel
        self._images = images
        self._policy: Any = None

    def serve(self) -> None:
        """Until the owner closes the channel."""
        questions = {
            "load": self._load,
            "infer": self._infer,
            "reset": self._reset,
        }
        while True:
            try:
                question, _ = self._channel.receive()
            except ChannelClosed:
                return
            try:
                answer, data = questions[question["do"]](question)
            except Exception as error:  # whatever it is: the owner is told, and decides
                answer, data = {"error": _described(error)}, b""
            try:
                self._channel.send(answer, data)
            except ChannelClosed:
                return

    def _load(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        module, _, function = question["load"].partition(":")
        load = getattr(importlib.import_module(module), function)
        self._policy = load(arguments_from_json(question["arguments"]))
        answer = {
            "horizon": int(self._policy.horizon),
            "device": str(self._policy.device),
            "rtc_max_delay": int(getattr(self._policy, "rtc_max_delay", 0)),
        }
        return answer, b""

    def _infer(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        more = {"prefix": prefix_from_json(question["prefix"])} if "prefix" in question else {}
        chunk = self._policy.infer(self._observation(question), **more)
        positions = np.ascontiguousarray(chunk.positions, np.float32)
        answer = {
            "shape": list(positions.shape),
            "dt": float(chunk.dt),
            "stamp": int(chunk.stamp),
            "sequence": int(chunk.sequence),
            "seed": int(chunk.seed),
            "stage_times": {stage: float(time) for stage, time in chunk.stage_times.items()},
        }
        return answer, positions.tobytes()

    def _reset(self, _: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._policy.reset()
        return {}, b""

    def _observation(self, question: Mapping[str, Any]) -> Observation:
        return Observation(
            images=self._images.read(question["images"]),
            state=np.array(question["state"], question["dtype"]),
            instruction=question["instruction"],
            stamp=question["stamp"],
        )


def prefix_from_json(values: Mapping[str, Any]) -> ActionPrefix:
    """The inverse of `process.prefix_as_json`."""
    arrays = {name: np.array(values[name], np.float32) for name in ("positions", "weights")}
    return ActionPrefix(**{**values, **arrays})


def arguments_from_json(values: Mapping[str, Any]) -> LoadArguments:
    """JSON has no tuples."""
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return LoadArguments(**plain)


def _described(error: Exception) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "text": str(error),
        "is_value_error": isinstance(error, ValueError),
        "trace": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def _end_with(lifeline: int) -> None:
    """Have the kernel end this process when the writing end of a pipe closes.

    That is when the owner's process ends, however it ends. SIGIO's default action ends a process
    even while native code holds the GIL, where a thread that watches could not.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it closed before anyone looked
        os._exit(1)


def main(channel: int, lifeline: int, memory: int) -> None:
    """Serve until the owner ends; the arguments are descriptors that it gave to this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner ends this process
    _end_with(lifeline)
    Server(Channel(socket.socket(fileno=channel)), SharedImages(memory)).serve()
