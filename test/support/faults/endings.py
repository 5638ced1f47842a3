"""SIGTERM in every state: the node ends with status 0, soon, and leaves nothing behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from support.faults.stage import FAKE_NODE
from support.faults.trial import Result
from support.process import Process, process_lives
from support.waiting import SOON, NotWithin, wait_until

if TYPE_CHECKING:
    from support.faults.stage import Stage


class Ending:
    """A node of its own name in the stage's domain."""

    def __init__(self, stage: Stage, state: str, **environment: str) -> None:
        self.stage, self.state = stage, state
        self.name = "ending_" + "".join(c if c.isalnum() else "_" for c in state)
        self._control = stage.folder / f"{self.name}_does"
        parameters = {"autostart": environment.pop("autostart", "") == "yes"}
        parameters["policy_process"] = environment.pop("policy_process", "") == "yes"
        command = [*FAKE_NODE, *stage.arguments(**parameters), "-r", f"__node:={self.name}"]
        environment["FAULT_CONTROL"] = str(self._control)
        self.process: Process = stage.process(self.name, command, **environment)

    def does(self, word: str) -> None:
        self._control.write_text(word)

    def is_in(self, state: str) -> None:
        def label() -> str:
            service = f"{self.name}/get_state"
            return self.stage.observer.call(GetState, service).current_state.label

        wait_until(lambda: label() == state, f"{self.name} to be {state}")

    def change(self, transition: int) -> None:
        if not self.stage.observer.change(self.name, transition):
            raise NotWithin(f"transition {transition} of {self.name}")

    def change_and_go_on(self, transition: int) -> None:
        """Ask for a transition whose answer nobody waits for."""
        self.stage.observer.ask(
            ChangeState, f"{self.name}/change_state", transition=Transition(id=transition)
        )


def _unconfigured(ending: Ending) -> None:
    ending.is_in("unconfigured")


def _configuring(ending: Ending) -> None:
    ending.process.wait_for("loading\n")


def _inactive(ending: Ending) -> None:
    ending.change(Transition.TRANSITION_CONFIGURE)
    ending.is_in("inactive")


def _active(ending: Ending) -> None:
    ending.process.wait_for("ready:")


def _inferring(ending: Ending) -> None:
    ending.does("hang")
    ending.process.wait_for("hanging")


def _cleaning_up(ending: Ending) -> None:
    ending.process.wait_for("ready:")
    ending.change(Transition.TRANSITION_DEACTIVATE)
    ending.change_and_go_on(Transition.TRANSITION_CLEANUP)
    ending.process.wait_for("closing")


STATES: tuple[tuple[str, Callable[[Ending], None], dict[str, str]], ...] = (
    ("unconfigured", _unconfigured, {}),
    ("configuring", _configuring, {"autostart": "yes", "FAULT_LOAD_SECONDS": "600"}),
    ("inactive", _inactive, {}),
    ("active", _active, {"autostart": "yes"}),
    ("inferring", _inferring, {"autostart": "yes"}),
    ("inferring in another process", _inferring, {"autostart": "yes", "policy_process": "yes"}),
    ("cleaning up", _cleaning_up, {"autostart": "yes", "FAULT_CLOSE_SECONDS": "1"}),
)
"""State, how to get there, and what the node is given."""


def try_endings(stage: Stage) -> list[Result]:
    """All states, at the same time: most of it is waiting."""
    endings = [Ending(stage, state, **given) for state, _, given in STATES]
    results = []
    try:
        for ending, (_, bring, _) in zip(endings, STATES, strict=True):
            results.append(_try(ending, bring))
    finally:
        for ending in endings:
            ending.process.kill()
    return results


def _try(ending: Ending, bring: Callable[[Ending], None]) -> Result:
    result = Result(f"SIGTERM while {ending.state}", how="not started again", meanwhile="an end")
    try:
        bring(ending)
    except NotWithin as error:
        result.problems.append(str(error))
        return result
    children = _children(ending.process.pid)
    begun = time.monotonic()
    try:
        status = ending.process.end(signal.SIGTERM, SOON)
        result.note = f"status {status} after {time.monotonic() - begun:.1f} s"
        if status != 0:
            result.problems.append(f"exit status {status}; {ending.process.tail}")
        wait_until(lambda: not any(map(process_lives, children)), "the end of its children", SOON)
    except NotWithin as error:
        result.problems.append(str(error))
    for word in ("Traceback", "terminate called", "core dumped"):
        if word in ending.process.output:
            result.problems.append(f"{word}; {ending.process.tail}")
    return result


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]
