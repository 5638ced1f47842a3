"""The policy and the thread that it lives in; observations of all clients pass through one queue.

An accelerator binds its context to a thread, so loading and inference share one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from pi0_ros.policy.card import PolicyCard
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation


class ServedPolicy(Protocol):
    """What a server needs of a policy; pi0_ros.policy.policy.Policy is one."""

    @property
    def horizon(self) -> int: ...

    @property
    def device(self) -> str: ...

    def infer(
        self,
        observation: Observation,
        *,
        prefix: ActionPrefix | None = None,
        sequence: int | None = None,
    ) -> ActionChunk: ...


@dataclass
class Episode:
    """What belongs to one client, from its connection or its last reset on.

    Attributes:
        sequence: chunks so far, which the noise of the next one depends on.
    """

    sequence: int = 0


@dataclass(frozen=True)
class Job:
    """An observation that waits.

    Attributes:
        wanted: whether its client is still there.
        put: monotonic seconds.
    """

    observation: Observation
    prefix: ActionPrefix | None
    sequence: int
    wanted: Callable[[], bool]
    answer: Future[ActionChunk] = field(default_factory=Future)
    put: float = field(default_factory=time.monotonic)


Load = Callable[[], tuple[ServedPolicy, PolicyCard | None]]


class Engine:
    """Loads a policy and infers, one after the other, in a thread of its own.

    Attributes:
        policy, card: None until `loaded` is done; the card where `load` gives one.
        loaded: its result is the policy, or what loading raised.
    """

    def __init__(self, load: Load, on_batch: Callable[[list[Job], float], None]) -> None:
        """Begin to load.

        Args:
            on_batch: called in the engine's thread after each inference with its jobs and seconds.
        """
        self._load, self._on_batch = load, on_batch
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.policy: ServedPolicy | None = None
        self.card: PolicyCard | None = None
        self.loaded: Future[ServedPolicy] = Future()
        # A daemon: a hung model must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="pi0-engine", daemon=True)
        self._thread.start()

    def infer(
        self,
        episode: Episode,
        observation: Observation,
        prefix: ActionPrefix | None,
        wanted: Callable[[], bool],
    ) -> Future[ActionChunk]:
        """The chunk that follows an observation; the next one of its episode.

        The future is cancelled where `wanted` says no once its turn comes.
        """
        job = Job(observation, prefix, episode.sequence, wanted)
        episode.sequence += 1
        self._jobs.put(job)
        return job.answer

    def close(self, timeout: float) -> None:
        """End the thread after what it does now."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self.policy, self.card = self._load()
        except BaseException as error:  # whoever waits for it is told
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(self.policy)
        while (job := self._jobs.get()) is not None:
            if not job.wanted():
                job.answer.cancel()
                continue
            begun = time.monotonic()
            try:
                more = {} if job.prefix is None else {"prefix": job.prefix}
                chunk = self.policy.infer(job.observation, sequence=job.sequence, **more)
                job.answer.set_result(chunk)
            except BaseException as error:
                job.answer.set_exception(error)
            self._on_batch([job], time.monotonic() - begun)
