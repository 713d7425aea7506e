"""Errors of the library. Each inherits the builtin that a caller would expect."""


class S4AugError(Exception):
    """Base of all errors that `s4aug` raises."""


class ArgumentError(S4AugError, ValueError):
    """An argument has the wrong shape, type or value; the message names it and the cure."""


class BackendUnavailable(S4AugError, RuntimeError):
    """The named backend cannot run on this machine or for these arguments."""
