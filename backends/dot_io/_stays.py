"""What cannot leave its process says so."""

from __future__ import annotations

from typing import NoReturn


class StaysInProcess:
    """Holds a socket, a lock or OpenSSL's state.  ``pickle`` and ``copy`` refuse it with :class:`TypeError`."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can be neither pickled nor copied, since what it holds belongs to this process: "
            "pass on the arguments that it was made of, and make another one there"
        )
