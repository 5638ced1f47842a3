"""Waiting for what has to happen, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

PATIENCE = 240.0
"""Seconds that anything may take on a slow and busy machine; a test that passes waits far less."""

SOON = 20.0
"""Seconds within which a program has to obey a signal there; a quiet machine needs one or two."""


class NotWithin(AssertionError):
    """Something that had to happen did not happen in time."""


def wait_until(
    condition: Callable[[], Any], what: str | Callable[[], str], patience: float = PATIENCE
) -> Any:
    """Call the condition until it is true, and return what it returned.

    Args:
        condition: cheap; called every 5 ms.
        what: what is waited for, in words; a function is called only on failure.
        patience: seconds.

    Raises:
        NotWithin: the condition did not become true.
    """
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            words = what if isinstance(what, str) else what()
            raise NotWithin(f"not within {patience:g} s: {words}")
        time.sleep(0.005)
    return value


def first_good(attempts: Iterable[Callable[[], Any]], good: Callable[[Any], bool]) -> Any:
    """The first result of these attempts that is good; that of the last one if none is.

    For measurements in real time, which a busy machine may spoil: the test asserts on the result.
    """
    for attempt in attempts:
        result = attempt()
        if good(result):
            break
    return result
