"""Errors a user can act on. Everything else is a bug in Squint and keeps its traceback.

A message has three parts in one or two sentences: what is wrong, with its values; what must
hold; what to do. The command line prints it without a traceback and exits with status 2.
"""


class SquintError(Exception):
    """Base of all errors that are the user's to mend."""


class RecipeError(SquintError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(SquintError):
    """A source or an image in it can't be read, or does not suit the recipe."""


class CheckpointError(SquintError):
    """A checkpoint or weights file is missing, damaged, or of another shape."""


class RunError(SquintError):
    """A run can't start, go on, or be found."""
