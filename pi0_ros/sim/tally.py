"""The tally of the simulated robot: which objects were asked for, which were touched."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass
class Score:
    """Counts tries. A try begins with an instruction and ends with the first contact after it.

    Attributes:
        instruction: of the try that runs or was the last, "" before the first.
        targets: the objects that satisfy it.
        touched: the object that was touched first, "" as long as none was.
        seconds: robot's time from the instruction to that contact; None as long as there is none.
        tries: begun so far.
        successes: tries in which one of those was touched first.
    """

    instruction: str = ""
    targets: tuple[str, ...] = ()
    touched: str = ""
    seconds: float | None = None
    tries: int = 0
    successes: int = 0
    _begun: int = 0

    @property
    def waiting(self) -> bool:
        """A try runs: a contact would end it."""
        return bool(self.instruction) and not self.touched

    def begin(self, instruction: str, targets: tuple[str, ...], now: int) -> None:
        """A new try at `now`, nanoseconds; one that still runs has failed."""
        self.instruction, self.targets, self._begun = instruction, targets, now
        self.touched, self.seconds = "", None
        self.tries += 1

    def touch(self, name: str, now: int) -> bool:
        """The first contact of the try; True: it is the right object."""
        self.touched, self.seconds = name, (now - self._begun) / 1e9
        right = name in self.targets
        self.successes += right
        return right

    def forget(self) -> None:
        """No try any more: the scene is a new one. The counts stay."""
        self.instruction = self.touched = ""
        self.targets, self.seconds = (), None

    def as_json(self, scene: int, instructions: tuple[str, ...]) -> str:
        """One line for the topic `~/score`.

        Args:
            scene: its seed.
            instructions: those that make sense in it.
        """
        right = self.touched in self.targets if self.touched else None
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
