"""Errors whose text is for the user."""


class UserError(Exception):
    """Something is wrong that the user can mend: the text says what, and what to do about it.

    Commands print the text without a traceback and end with status 1. Errors of the rooms derive
    from it beside their built-in base, such as `class BagError(UserError, ValueError)`.
    """
