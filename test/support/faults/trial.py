"""One trial: inject a fault, check the node, remove the fault, wait for recovery."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.faults.faults import Fault
from support.faults.observer import Status
from support.waiting import NotWithin, wait_until

if TYPE_CHECKING:
    from support.faults.testbed import Testbed

GRACE = 0.5
"""Seconds that what was under way when the cause was named may take: chunks, and their stops."""

LATEST = 5.0
"""Seconds after the cause was named from which on no observation may lead to a chunk."""

HOLD = 0.7
"""Seconds in which nothing may be published; longer than starve_timeout, so that a stop is seen."""


@dataclass
class Result:
    """What came of a fault.

    Attributes:
        name: of the fault.
        problems: sentences; none: it was survived.
        diagnosis: what /diagnostics reported of it.
        meanwhile: what came out while it lasted.
        recovery: seconds from its end to the next trajectory; None where none is due.
        how: what the recovery took.
        note: figures that belong to it.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    diagnosis: str = ""
    meanwhile: str = ""
    recovery: float | None = None
    how: str = "by itself"
    note: str = ""

    @property
    def survived(self) -> bool:
        return not self.problems


def try_fault(testbed: Testbed, fault: Fault) -> Result:
    """One fault on the node that runs; it has to be publishing trajectories."""
    result = Result(fault.name, how="~/reset, ~/enable" if fault.reset else "by itself")
    judge, pid = testbed.judge, testbed.node.pid
    blamed = len(judge.violations)
    try:
        testbed.wait_for_trajectories()
        began = time.monotonic()
        fault.begin_on(testbed)
        ended = time.monotonic()
        if not fault.instant:
            try:
                status = _reported(testbed, fault, began)
                result.diagnosis = _quote(status)
                result.meanwhile = _during(testbed, fault)
                if fault.reset:  # while it lasts
                    _wait_for_latch(testbed, fault)
            finally:
                judge.hold("")  # first: the arm may move before the call below returns
                note = fault.end_on(testbed)
            result.note = note if isinstance(note, str) else ""
            ended = time.monotonic()
        if fault.reset:
            _reset(testbed)
            ended = time.monotonic()
        recovered(testbed)
        result.recovery = time.monotonic() - ended
        _wait_until_ok(testbed, fault)
    except NotWithin as error:
        result.problems.append(str(error))
        _revive(testbed)
    if fault.instant:  # it was over at the first trajectory
        now = testbed.observer.now()
        with contextlib.suppress(NotWithin):  # the arm's clock may stand still
            wait_until(lambda: not judge.owes(now), "a judgement of what came", 5.0)
    result.problems += judge.violations[blamed:]
    if not testbed.node.lives() or testbed.node.pid != pid:
        result.problems.append(f"the node has ended; {testbed.node.tail}")
    return result


def _reported(testbed: Testbed, fault: Fault, since: float) -> Status | None:
    """The status of /diagnostics that reports the fault."""
    if fault.diagnosis is None:
        return None
    about, words = fault.diagnosis.status, [word.lower() for word in fault.diagnosis.words]

    def found() -> Status | None:
        heard = testbed.observer.statuses(about, since)
        fits = (s for s in heard if s.level and all(word in s.text for word in words))
        return next(fits, None)

    def what() -> str:
        heard = {f"{s.level} {s.text}" for s in testbed.observer.statuses(about, since)[-8:]}
        return f"{words} in the status {about!r} of /diagnostics, which has {sorted(heard)}"

    return wait_until(found, what)


def _during(testbed: Testbed, fault: Fault) -> str:
    """Check what is published while the fault lasts."""
    observer = testbed.observer
    if fault.chunks in ("stop", "dry"):
        _wait_for_rest(testbed, fault)
        if fault.chunks == "dry":
            before = observer.chunks
            wait_until(lambda: observer.chunks > before, "a chunk of the dry run")
            return "nothing but a stop; a dry run goes on"
        return "nothing but a stop"
    before, begun = observer.chunks, time.monotonic()
    if fault.chunks == "go on":
        wait_until(lambda: observer.chunks >= before + 5, "5 chunks during the fault")
    else:
        time.sleep(2 * HOLD)
    return f"{(observer.chunks - before) / (time.monotonic() - begun):.1f} chunks/s"


def _wait_for_rest(testbed: Testbed, fault: Fault) -> None:
    """Until for HOLD seconds nothing came but one stop: chunks that were under way come before."""
    observer, seen, since = testbed.observer, -1, 0.0
    named = observer.now()

    def rests() -> bool:
        nonlocal seen, since
        came = observer.executed if fault.chunks == "dry" else observer.chunks
        if came != seen:
            if seen >= 0 and observer.chunk_stamp > named + LATEST * 1e9:
                raise NotWithin(f"an end of the chunks within {LATEST:g} s of observations")
            seen, since = came, time.monotonic()
            testbed.judge.hold(f"of the fault {fault.name!r}", time.time_ns())
        return time.monotonic() - since > HOLD

    time.sleep(GRACE)
    wait_until(rests, lambda: f"an end of the chunks; {testbed.node.tail}")


def _wait_for_latch(testbed: Testbed, fault: Fault) -> None:
    """Until ~/enable is refused. What is reported because it latched refuses at once."""
    refused = "a refusal of ~/enable while latched"
    if fault.chunks != "dry":  # a busy machine latches later than it reports
        wait_until(lambda: not testbed.observer.enable().success, refused)
    elif testbed.observer.enable().success:
        raise NotWithin(refused)


def _reset(testbed: Testbed) -> None:
    """What an operator does after a latch; without it nothing may move."""
    before = testbed.observer.executed
    refused = testbed.observer.enable()
    if refused.success:
        raise NotWithin("a refusal of ~/enable while latched")
    testbed.judge.hold("of the latch", time.time_ns())  # which leaves room for one late stop
    try:
        time.sleep(0.3)
    finally:
        testbed.judge.hold("")
    if testbed.observer.executed > before:
        raise NotWithin("the latch: a chunk was executed before ~/reset")
    for answer in (testbed.observer.reset(), testbed.observer.enable()):
        if not answer.success:
            raise NotWithin(f"~/reset and ~/enable: {answer.message}")


def _revive(testbed: Testbed) -> None:
    """After a fault that was not survived: give the next one a node that moves, if it can."""
    with contextlib.suppress(NotWithin):
        testbed.observer.reset()
        testbed.observer.enable()


def recovered(testbed: Testbed) -> None:
    """Until there is a trajectory from an observation made after now."""
    observer = testbed.observer
    now, before = observer.now(), observer.trajectories
    wait_until(
        lambda: (
            (observer.chunk_stamp > now and observer.trajectories > before)
            or not testbed.node.lives()
        ),
        lambda: f"a trajectory after the fault; {testbed.node.tail}",
    )


def _wait_until_ok(testbed: Testbed, fault: Fault) -> None:
    """Wait until the status that reported the fault is OK again."""
    if fault.diagnosis is None:
        return
    ended = time.monotonic()

    def fine() -> bool:
        heard = testbed.observer.statuses(fault.diagnosis.status, ended)
        return bool(heard) and heard[-1].level == 0

    wait_until(fine, f"{fault.diagnosis.status!r} to be OK again")


def _quote(status: Status | None) -> str:
    if status is None:
        return ""
    return f"{status.name.split(': ', 1)[1]}: {status.message}"
