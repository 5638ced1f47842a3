"""Trying a fault: begin it, look, end it, and see whether all is as before."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.faults.faults import Fault
from support.faults.observer import Said
from support.waiting import NotWithin, wait_until

if TYPE_CHECKING:
    from support.faults.stage import Stage

HOLD = 0.7
"""Seconds of looking whether nothing comes; longer than starve_timeout, so that a stop is seen."""


@dataclass
class Result:
    """What came of a fault.

    Attributes:
        name: of the fault.
        problems: sentences; none: it was survived.
        said: what /diagnostics said of it.
        meanwhile: what came out while it lasted.
        recovery: seconds from its end to the next trajectory; None where none is due.
        how: what the recovery took.
        note: figures that belong to it.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    said: str = ""
    meanwhile: str = ""
    recovery: float | None = None
    how: str = "by itself"
    note: str = ""

    @property
    def survived(self) -> bool:
        return not self.problems


def try_fault(stage: Stage, fault: Fault) -> Result:
    """One fault on the node that runs; it has to be publishing trajectories."""
    result = Result(fault.name, how="~/reset, ~/enable" if fault.reset else "by itself")
    judge, pid = stage.judge, stage.node.pid
    blamed = len(judge.violations)
    try:
        stage.wait_for_trajectories()
        began = time.monotonic()
        fault.begin_on(stage)
        ended = time.monotonic()
        if not fault.instant:
            try:
                said = _named(stage, fault, began)
                result.said = _quote(said)
                result.meanwhile = _meanwhile(stage, fault)
            finally:
                note = fault.end_on(stage)
                judge.hold("")
            result.note = note if isinstance(note, str) else ""
            ended = time.monotonic()
        if fault.reset:
            _reset(stage)
            ended = time.monotonic()
        recovered(stage)
        result.recovery = time.monotonic() - ended
        _all_is_well(stage, fault)
    except NotWithin as error:
        result.problems.append(str(error))
        _help(stage)
    result.problems += judge.violations[blamed:]
    if not stage.node.lives() or stage.node.pid != pid:
        result.problems.append(f"the node has ended; {stage.node.tail}")
    return result


def _named(stage: Stage, fault: Fault, since: float) -> Said | None:
    """What /diagnostics says about the fault."""
    if fault.says is None:
        return None
    about, words = fault.says.about, [word.lower() for word in fault.says.words]

    def found() -> Said | None:
        heard = stage.observer.said(about, since)
        fits = (s for s in heard if s.level and all(word in s.text for word in words))
        return next(fits, None)

    def what() -> str:
        heard = {f"{s.level} {s.text}" for s in stage.observer.said(about, since)[-8:]}
        return f"{words} in the status {about!r} of /diagnostics, which says {sorted(heard)}"

    return wait_until(found, what)


def _meanwhile(stage: Stage, fault: Fault) -> str:
    """Look at what comes out while the fault lasts."""
    observer = stage.observer
    if fault.chunks in ("stop", "dry"):
        time.sleep(fault.grace)
        stage.judge.hold(f"of the fault {fault.name!r}")
        before = observer.chunks
        time.sleep(HOLD)
        if fault.chunks == "dry":
            wait_until(lambda: observer.chunks > before, "a chunk of the dry run")
            return "nothing but a stop; a dry run goes on"
        if observer.chunks > before:
            raise NotWithin(f"an end of the chunks: {observer.chunks - before} more came")
        return "nothing but a stop"
    before, begun = observer.chunks, time.monotonic()
    if fault.chunks == "go on":
        wait_until(lambda: observer.chunks >= before + 5, "5 chunks during the fault")
    else:
        time.sleep(2 * HOLD)
    return f"{(observer.chunks - before) / (time.monotonic() - begun):.1f} chunks/s"


def _reset(stage: Stage) -> None:
    """What an operator does after a latch; without it nothing may move."""
    before = stage.observer.trajectories
    refused = stage.observer.enable()
    if refused.success:
        raise NotWithin("a refusal of ~/enable while latched")
    time.sleep(0.3)
    if stage.observer.trajectories > before:
        raise NotWithin("the latch: a trajectory came before ~/reset")
    for answer in (stage.observer.reset(), stage.observer.enable()):
        if not answer.success:
            raise NotWithin(f"~/reset and ~/enable: {answer.message}")


def _help(stage: Stage) -> None:
    """After a fault that was not survived: give the next one a node that moves, if it can."""
    with contextlib.suppress(NotWithin):
        stage.observer.reset()
        stage.observer.enable()


def recovered(stage: Stage) -> None:
    """Until there is a trajectory from an observation made after now."""
    observer = stage.observer
    now, before = observer.now(), observer.trajectories
    wait_until(
        lambda: (
            (observer.chunk_stamp > now and observer.trajectories > before)
            or not stage.node.lives()
        ),
        lambda: f"a trajectory after the fault; {stage.node.tail}",
    )


def _all_is_well(stage: Stage, fault: Fault) -> None:
    """Until what /diagnostics blamed is fine again."""
    if fault.says is None:
        return
    ended = time.monotonic()

    def fine() -> bool:
        heard = stage.observer.said(fault.says.about, ended)
        return bool(heard) and heard[-1].level == 0

    wait_until(fine, f"{fault.says.about!r} to be OK again")


def _quote(said: Said | None) -> str:
    if said is None:
        return ""
    return f"{said.name.split(': ', 1)[1]}: {said.message}"
