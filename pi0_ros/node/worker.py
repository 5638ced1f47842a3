"""One thread that works on one thing at a time, beside the executor."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_HANDOVER = 1e-4  # seconds in which a thread that is woken begins


@dataclass(frozen=True)
class Outcome:
    """What a job returned, or the exception it raised."""

    value: Any = None
    error: BaseException | None = None


class Worker:
    """Loading and inference run here, so that the executor stays free for messages.

    All of it happens in the same thread, because accelerators bind their context to a thread.
    Every method belongs to the owner's thread; only `notify` is called from the worker's.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        """`notify` says that an outcome is ready to be taken; it must return at once."""
        self._notify = notify
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._stopping = False
        self._begun: float | None = None  # time.monotonic() at which the job that runs began
        self._abandoned = False
        self.busy = False
        """From `submit` until the outcome is taken."""
        # A daemon: a hung model must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="pi0-inference", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any]) -> bool:
        """Start a job and return at once; False when the previous one is not done."""
        if self.busy:
            return False
        self.busy = True
        self._jobs.put(job)
        # The worker needs the interpreter's lock to begin, which this thread would keep until it
        # waits for messages again: half a millisecond.
        time.sleep(_HANDOVER)
        return True

    def take(self) -> Outcome | None:
        """The outcome of the last job, once; None while there is none, or if it was abandoned."""
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        if self._abandoned:
            self._abandoned = False
            return None
        return outcome

    def running_for(self) -> float | None:
        """Steady seconds that the job has been running; None while none runs."""
        begun = self._begun
        return None if begun is None else time.monotonic() - begun

    def abandon(self) -> bool:
        """Want no outcome of the job that runs; False when none runs or this was said before.

        Nothing can interrupt the job: the worker stays busy until it ends, and `notify` is called
        then, but `take` returns None.
        """
        if self._begun is None or self._abandoned:
            return False
        self._abandoned = True
        return True

    def stop(self, timeout: float) -> bool:
        """End the thread; False if its job is still running after `timeout` seconds."""
        self._stopping = True
        self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping:
            self._begun = time.monotonic()
            try:
                outcome = Outcome(value=job())
            except BaseException as error:
                # Whatever it is: the owner decides. A dead thread would look busy for ever.
                outcome = Outcome(error=error)
            self._begun = None
            if self._stopping:
                return
            self._outcomes.put(outcome)
            self._notify()
