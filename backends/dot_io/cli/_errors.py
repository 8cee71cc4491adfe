"""The one exception that the command raises at its user; importable without any optional package."""


class UsageError(Exception):
    """The command line says something that cannot be done; the message says what, where, and what to do."""
