"""What a server's callback for SNI raises: CPython prints it, and OpenSSL only says that a callback has failed."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

_RAISED: Final[WeakKeyDictionary[Any, Exception]] = WeakKeyDictionary()
"By connection."


class _Watched:
    """Somebody's callback, and what it raises for whom."""

    def __init__(self, callback: Callable[..., int | None]) -> None:
        self._callback = callback

    def __call__(self, tls: Any, name: str | None, context: ssl.SSLContext) -> int | None:
        try:
            return self._callback(tls, name, context)
        except Exception as error:
            _RAISED[tls] = error
            raise


def watch_callbacks(context: ssl.SSLContext) -> None:
    """Remember from now on what the callback for SNI raises, if there is one; it is called as before."""
    callback: Any = context.sni_callback
    if callback is not None and not isinstance(callback, _Watched):
        context.sni_callback = _Watched(callback)


def raised_for(tls: ssl.SSLObject) -> Exception | None:
    """What a callback has raised in the handshake of this connection."""
    return _RAISED.pop(tls, None)
