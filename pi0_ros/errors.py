"""Errors whose text is for the user."""

from collections.abc import Sequence


class UserError(Exception):
    """Something is wrong that the user can mend: the text says what, and what to do about it.

    Commands print the text without a traceback and end with status 1. Errors of the rooms derive
    from it beside their built-in base, such as `class BagError(UserError, ValueError)`.
    """


class ProblemsError(UserError, ValueError):
    """Several things are wrong at once.

    Attributes:
        problems: all of them, a sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
