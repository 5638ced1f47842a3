"""The policy and the thread that it lives in; requests of all clients pass through one queue.

What came while an inference ran shares the next one; what comes while none runs begins at once.

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
from pi0_ros.policy.types import ActionChunk, ActionPrefix, ChunkRequest, Observation


class ServedPolicy(Protocol):
    """What a server needs of a policy; pi0_ros.policy.policy.Policy is one.

    One that has `batch_sizes` besides has `infer_batch`, too.
    """

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
    """A request that waits.

    Attributes:
        wanted: whether its client is still there.
        put: monotonic seconds.
    """

    request: ChunkRequest
    wanted: Callable[[], bool]
    answer: Future[ActionChunk] = field(default_factory=Future)
    put: float = field(default_factory=time.monotonic)


Load = Callable[[], tuple[ServedPolicy, PolicyCard | None]]


class Engine:
    """Loads a policy and infers, one after the other: in a thread of its own or its only client's.

    Attributes:
        policy, card: None until `loaded` is done; the card where `load` gives one.
        loaded: its result is the policy, or what loading raised.
    """

    def __init__(
        self, load: Load, on_batch: Callable[[list[Job], float], None], own_thread: bool = True
    ) -> None:
        """Begin to load.

        Args:
            on_batch: called in the engine's thread after each inference with its jobs and seconds.
            own_thread: False: load here, and infer in the thread that asks, which saves the one
                client of a process two changes of threads.
        """
        self._load, self._on_batch = load, on_batch
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.policy: ServedPolicy | None = None
        self.card: PolicyCard | None = None
        self.loaded: Future[ServedPolicy] = Future()
        self._thread: threading.Thread | None = None
        if not own_thread:
            self._begin()
            return
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
        job = Job(ChunkRequest(observation, episode.sequence, prefix), wanted)
        episode.sequence += 1
        if self._thread is None:
            self._serve([job])
        else:
            self._jobs.put(job)
        return job.answer

    def close(self, timeout: float) -> None:
        """End the thread after what it does now."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _begin(self) -> bool:
        try:
            self.policy, self.card = self._load()
        except BaseException as error:  # whoever waits for it is told
            self.loaded.set_exception(error)
            return False
        self.loaded.set_result(self.policy)
        return True

    def _run(self) -> None:
        if not self._begin():
            return
        most = max(getattr(self.policy, "batch_sizes", (1,)))
        while (jobs := self._take(most)) is not None:
            if jobs:
                self._serve(jobs)

    def _serve(self, jobs: list[Job]) -> None:
        begun = time.monotonic()
        if not self._infer_together(jobs):
            for job in jobs:
                self._infer_alone(job)
        self._on_batch(jobs, time.monotonic() - begun)

    def _take(self, most: int) -> list[Job] | None:
        """What waits, in its order: at least one, as soon as there is one. None: the end.

        A client has one request at a time, so nobody gets a second turn before all others had one.
        """
        jobs = [self._jobs.get()]
        while len(jobs) < most:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        if None in jobs:
            return None
        wanted = []
        for job in jobs:
            if not job.wanted():
                job.answer.cancel()
            # From here on whoever waits can no longer cancel it, so that it takes its result.
            if job.answer.set_running_or_notify_cancel():
                wanted.append(job)
        return wanted

    def _infer_together(self, jobs: list[Job]) -> bool:
        """Whether all have their chunks; a request that is wrong must not spoil the others."""
        if len(jobs) == 1:
            return False
        try:
            chunks = self.policy.infer_batch([job.request for job in jobs])
        except Exception:  # each is tried alone, which reports what is wrong
            return False
        for job, chunk in zip(jobs, chunks, strict=True):
            job.answer.set_result(chunk)
        return True

    def _infer_alone(self, job: Job) -> None:
        request = job.request
        more = {} if request.prefix is None else {"prefix": request.prefix}
        try:
            chunk = self.policy.infer(request.observation, sequence=request.sequence, **more)
        except BaseException as error:  # whatever it is: the client is told
            if not isinstance(error, Exception) or isinstance(error, StopIteration):
                # In the loop that waits for it, it would end more than this answer.
                error = RuntimeError(f"{type(error).__name__}: {error}")
            job.answer.set_exception(error)
        else:
            job.answer.set_result(chunk)
