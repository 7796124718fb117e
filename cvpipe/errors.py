"""The errors a user can cause and mend.

Everything else is a bug of ours and keeps its traceback.
"""


class UserError(Exception):
    """Something outside the program is wrong; the message says what, where, and what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The command line or a pipeline file is wrong."""

    exit_code = 2


class DataError(UserError):
    """Images or labels can't be used as they are."""


class Interrupted(UserError):
    """The run was asked to stop; everything is saved and the same command resumes it."""

    exit_code = 75
