"""SIGTERM in every state: the node ends with status 0, soon, and leaves nothing behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from pi0_ros.console import is_installed
from support.faults.testbed import FAKE_NODE
from support.faults.trial import Result
from support.process import Process, process_lives
from support.waiting import SOON, NotWithin, wait_until

if TYPE_CHECKING:
    from support.faults.testbed import Testbed


class Shutdown:
    """A node of its own name in the testbed's domain."""

    def __init__(self, testbed: Testbed, state: str, **environment: str) -> None:
        self.testbed, self.state = testbed, state
        self.name = "shutdown_" + "".join(c if c.isalnum() else "_" for c in state)
        self._control = testbed.folder / f"{self.name}_does"
        parameters = {"autostart": environment.pop("autostart", "") == "yes"}
        parameters["policy_url"] = environment.pop("policy_url", "")
        command = [*FAKE_NODE, *testbed.arguments(**parameters), "-r", f"__node:={self.name}"]
        environment["FAULT_CONTROL"] = str(self._control)
        self.process: Process = testbed.process(self.name, command, **environment)

    def does(self, word: str) -> None:
        self._control.write_text(word)

    def is_in(self, state: str) -> None:
        def label() -> str:
            service = f"{self.name}/get_state"
            return self.testbed.observer.call(GetState, service).current_state.label

        wait_until(lambda: label() == state, f"{self.name} to be {state}")

    def change(self, transition: int) -> None:
        if not self.testbed.observer.change(self.name, transition):
            raise NotWithin(f"transition {transition} of {self.name}")

    def change_and_go_on(self, transition: int) -> None:
        """Ask for a transition whose answer nobody waits for."""
        self.testbed.observer.ask(
            ChangeState, f"{self.name}/change_state", transition=Transition(id=transition)
        )


def _unconfigured(shutdown: Shutdown) -> None:
    shutdown.is_in("unconfigured")


def _configuring(shutdown: Shutdown) -> None:
    shutdown.process.wait_for("loading\n")


def _inactive(shutdown: Shutdown) -> None:
    shutdown.change(Transition.TRANSITION_CONFIGURE)
    shutdown.is_in("inactive")


def _active(shutdown: Shutdown) -> None:
    shutdown.process.wait_for("ready:")


def _inferring(shutdown: Shutdown) -> None:
    shutdown.does("hang")
    shutdown.process.wait_for("hanging")


def _cleaning_up(shutdown: Shutdown) -> None:
    shutdown.process.wait_for("ready:")
    shutdown.change(Transition.TRANSITION_DEACTIVATE)
    shutdown.change_and_go_on(Transition.TRANSITION_CLEANUP)
    shutdown.process.wait_for("closing")


STATES: tuple[tuple[str, Callable[[Shutdown], None], dict[str, str]], ...] = (
    ("unconfigured", _unconfigured, {}),
    ("configuring", _configuring, {"autostart": "yes", "FAULT_LOAD_SECONDS": "600"}),
    ("inactive", _inactive, {}),
    ("active", _active, {"autostart": "yes"}),
    ("inferring", _inferring, {"autostart": "yes"}),
    ("cleaning up", _cleaning_up, {"autostart": "yes", "FAULT_CLOSE_SECONDS": "1"}),
)
if is_installed("msgpack"):
    STATES += (
        ("inferring in another process", _inferring, {"autostart": "yes", "policy_url": "process"}),
    )
"""State, how to get there, and what the node is given."""


def try_shutdowns(testbed: Testbed) -> list[Result]:
    """All states, at the same time: most of it is waiting."""
    shutdowns = [Shutdown(testbed, state, **given) for state, _, given in STATES]
    results = []
    try:
        for shutdown, (_, bring, _) in zip(shutdowns, STATES, strict=True):
            results.append(_try(shutdown, bring))
    finally:
        for shutdown in shutdowns:
            shutdown.process.kill()
    return results


def _try(shutdown: Shutdown, bring: Callable[[Shutdown], None]) -> Result:
    result = Result(f"SIGTERM while {shutdown.state}", how="not started again", meanwhile="an end")
    try:
        bring(shutdown)
    except NotWithin as error:
        result.problems.append(str(error))
        return result
    children = _children(shutdown.process.pid)
    begun = time.monotonic()
    try:
        status = shutdown.process.end(signal.SIGTERM, SOON)
        result.note = f"status {status} after {time.monotonic() - begun:.1f} s"
        if status != 0:
            result.problems.append(f"exit status {status}; {shutdown.process.tail}")
        wait_until(lambda: not any(map(process_lives, children)), "the end of its children", SOON)
    except NotWithin as error:
        result.problems.append(str(error))
    for word in ("Traceback", "terminate called", "core dumped"):
        if word in shutdown.process.output:
            result.problems.append(f"{word}; {shutdown.process.tail}")
    return result


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]
