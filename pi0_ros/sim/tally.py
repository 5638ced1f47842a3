"""The tally of the simulated robot: which objects were asked for, which were touched."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass
class Score:
    """Counts tries. A try begins with an instruction and ends with the first contact after it.

    Attributes:
        instruction: of the try that runs or was the last, "" before the first.
        named: the object it names.
        touched: the object that was touched first, "" as long as none was.
        seconds: robot's time from the instruction to that contact; None as long as there is none.
        tries: begun so far.
        successes: tries in which the named object was touched first.
    """

    instruction: str = ""
    named: str = ""
    touched: str = ""
    seconds: float | None = None
    tries: int = 0
    successes: int = 0
    _begun: int = 0

    @property
    def waiting(self) -> bool:
        """A try runs: a contact would end it."""
        return bool(self.instruction) and not self.touched

    def begin(self, instruction: str, named: str, now: int) -> None:
        """A new try at `now`, nanoseconds; one that still runs has failed."""
        self.instruction, self.named, self._begun = instruction, named, now
        self.touched, self.seconds = "", None
        self.tries += 1

    def touch(self, name: str, now: int) -> bool:
        """The first contact of the try; True: it is the right object."""
        self.touched, self.seconds = name, (now - self._begun) / 1e9
        self.successes += name == self.named
        return name == self.named

    def forget(self) -> None:
        """No try any more: the scene is a new one. The counts stay."""
        self.instruction = self.named = self.touched = ""
        self.seconds = None

    def as_json(self, scene: int, instructions: tuple[str, ...]) -> str:
        """One line for the topic `~/score`.

        Args:
            scene: its seed.
            instructions: those that make sense in it.
        """
        right = self.touched == self.named if self.touched else None
        return json.dumps(
            {
                "scene": scene,
                "instructions": list(instructions),
                "instruction": self.instruction,
                "touched": self.touched or None,
                "right": right,
                "seconds": self.seconds,
                "tries": self.tries,
                "successes": self.successes,
            }
        )
