"""The policy in a thread of its own, which does one thing at a time beside the executor of ROS."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.motion.rtc import NO_AGREEMENT, Agreement
from pi0_ros.node.loading import PolicyLike
from pi0_ros.node.observation import Snapshot
from pi0_ros.policy.types import ActionChunk

_HANDOVER = 1e-4  # seconds in which a thread that is woken begins

_Outcome = tuple[Any, BaseException | None]  # what a job returned, or raised


@dataclass(frozen=True)
class Inference:
    """A chunk and how it came about.

    Attributes:
        epoch: what was given to `PolicyWorker.infer`.
        ticked: time.perf_counter() at the tick.
        seconds: of decoding and inferring.
        agreement: what the chunk was made to agree with.
    """

    epoch: Any
    snapshot: Snapshot
    chunk: ActionChunk
    ticked: float
    seconds: float
    agreement: Agreement = NO_AGREEMENT


class PolicyWorker:
    """Owns the policy and the thread in which it is loaded and infers.

    The executor of ROS stays free for messages. All jobs run in the same thread, because
    accelerators bind their context to a thread. Every method belongs to the owner's thread; only
    `notify` is called from the worker's.

    Attributes:
        policy: None until `load` has returned, and after `close`.
        busy: from `load` or `infer` until the outcome is taken.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        """`notify` says that `take` has something to return; it must return at once."""
        self.policy: PolicyLike | None = None
        self.busy = False
        self._notify = notify
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._stopping = False
        self._begun: float | None = None  # time.monotonic() at which the job that runs began
        self._abandoned = False
        # A daemon: a hung model must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="pi0-inference", daemon=True)
        self._thread.start()

    def load(
        self, load: Callable[[], PolicyLike], wait: Callable[[], None]
    ) -> BaseException | None:
        """Load the policy.

        Args:
            wait: called again and again meanwhile; what it raises is raised here.

        Returns:
            What `load` raised; None if there is a policy now.
        """
        self._submit(load)
        while (outcome := self._outcome()) is None:
            wait()
        self.policy, error = outcome
        return error

    def infer(
        self,
        snapshot: Snapshot,
        decode: Callable[[Any], np.ndarray],
        reset: bool,
        epoch: Any,
        ticked: float,
        agreement: Agreement = NO_AGREEMENT,
    ) -> None:
        """Decode the images and infer, unless the worker is busy.

        Args:
            decode: see `Snapshot.observation`.
            reset: begin a new episode first.
            epoch, ticked, agreement: see `Inference`.
        """
        policy, prefix = self.policy, agreement.prefix
        more = {} if prefix is None else {"prefix": prefix}

        def job() -> Inference:
            started = time.perf_counter()
            if reset:
                policy.reset()
            chunk = policy.infer(snapshot.observation(decode), **more)
            seconds = time.perf_counter() - started
            return Inference(epoch, snapshot, chunk, ticked, seconds, agreement)

        self._submit(job)

    def take(self) -> Inference | None:
        """The inference that ended, once; None while there is none, or if it was given up.

        Raises:
            Refusal: decoding or inferring raised.
        """
        outcome = self._outcome()
        if outcome is None:
            return None
        inference, error = outcome
        if isinstance(error, Refusal):
            raise error
        if error is not None:
            raise Refusal(Reason.FAILED, f"{type(error).__name__}: {error}") from error
        return inference

    def running_for(self) -> float | None:
        """Steady seconds that the job has been running; None while none runs."""
        begun = self._begun
        return None if begun is None else time.monotonic() - begun

    def give_up(self, limit: float) -> Refusal | None:
        """Want nothing of an inference that has run for more than `limit` seconds any more.

        Returns:
            Why, the first time. Nothing can interrupt the inference: the worker stays busy until
            it ends, and `notify` is called then, but `take` returns None.
        """
        running_for = self.running_for()
        if running_for is None or running_for <= limit or self._abandoned:
            return None
        # A policy elsewhere has `kill`. One that starts again takes as long as loading does, and
        # reports failure itself.
        if getattr(self.policy, "loading", False) or self._begun is None:
            return None
        self._abandoned = True
        if hasattr(self.policy, "kill"):
            self.policy.kill()  # it starts again at the next inference
        return Refusal(Reason.TIMEOUT, f"the inference has run for {running_for:.1f} s; given up")

    def stop(self, timeout: float) -> bool:
        """End the thread; False if it is still busy after `timeout` seconds."""
        self._stopping = True
        self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self, timeout: float) -> bool:
        """End the thread and free the policy; False if it is still busy after `timeout` seconds."""
        ended = self.stop(timeout)
        policy, self.policy = self.policy, None
        if hasattr(policy, "close"):
            policy.close()
        return ended

    def _submit(self, job: Callable[[], Any]) -> None:
        """Start a job and return at once, unless the previous outcome was not taken."""
        if self.busy:
            return
        self.busy = True
        self._jobs.put(job)
        # The worker needs the GIL to begin, which this thread would keep until it waits for
        # messages again: half a millisecond.
        time.sleep(_HANDOVER)

    def _outcome(self) -> _Outcome | None:
        """Of the last job, once; None while there is none, or if it was given up."""
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        abandoned, self._abandoned = self._abandoned, False
        return None if abandoned else outcome

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping:
            self._begun = time.monotonic()
            try:
                outcome = job(), None
            except BaseException as error:
                # Whatever it is: the owner decides. A dead thread would look busy for ever.
                outcome = None, error
            self._begun = None
            if self._stopping:
                return
            self._outcomes.put(outcome)
            self._notify()
