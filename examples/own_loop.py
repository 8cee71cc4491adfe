"""Your own event loop: ``selectors``, one non-blocking socket, and the session that does the rest.

A driver has four duties, whatever the loop: send what ``data_to_send()`` returns, wait for octets or for
``next_timeout()``, tell the session what came, and stop when it ``is_finished``.  It decides nothing: TLS,
authentication, matching, padding, deadlines and the orderly end are the session's.

    python own_loop.py 1.1.1.1 example.com example.net --name cloudflare-dns.com
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from collections.abc import Iterator
from time import monotonic

from arguments import Arguments, arguments, summary

from dot_io.tls import ClientContext, TLSClient
from dot_proto import ConnectionClosed, Event, QueryLost, QueryTimedOut, ResponseReceived, make_query


def drive(sock: socket.socket, session: TLSClient) -> Iterator[Event]:
    """Move octets between the socket and the session until the session has ended; yields what happens."""
    unsent = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        while True:
            try:
                # Send as much as the kernel takes now; the rest waits until the socket is writable again.
                unsent += b"".join(session.data_to_send())
                while unsent:
                    del unsent[: sock.send(unsent)]
            except BlockingIOError:
                pass
            except OSError as error:
                unsent.clear()
                yield from session.fail(str(error), now=monotonic())
            if session.is_finished:
                return  # what the kernel would not take of the last octets is not worth waiting for
            selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
            deadline = session.next_timeout()
            ready = selector.select(None if deadline is None else max(deadline - monotonic(), 0))
            if any(mask & selectors.EVENT_READ for _, mask in ready):
                yield from receive(sock, session)
            # Never too early, never too often: the session acts only on what is due.
            yield from session.handle_timeout(now=monotonic())


def receive(sock: socket.socket, session: TLSClient) -> list[Event]:
    """Tell the session what the socket has for it: octets, the end, or a failure."""
    try:
        data = sock.recv(65_536)
    except OSError as error:
        return session.fail(str(error), now=monotonic())
    if not data:
        return session.receive_eof(now=monotonic())
    return session.receive_data(data, now=monotonic())


def main() -> int:
    """Ask all names at once, print each answer as it comes; 0 if every name was answered."""
    given = arguments(__doc__)
    try:
        sock = socket.create_connection((given.host, given.port), timeout=given.timeout)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ask(sock, given)


def ask(sock: socket.socket, given: Arguments) -> int:
    """The application: what it asks, and what it makes of the events."""
    context, server = ClientContext(given.policy), (given.host, given.port)
    session = TLSClient(context, server=server, entropy=os.urandom, now=monotonic())
    # Asking may begin at once: the engine holds the queries until the server has been authenticated.
    send, timeout = session.connection.send_query, given.timeout
    waiting = {send(make_query(name), now=monotonic(), timeout=timeout): name for name in given.names}
    code = 0
    for event in drive(sock, session):
        if isinstance(event, ResponseReceived):
            print(summary(waiting.pop(event.query), event.message))
        elif isinstance(event, QueryTimedOut | QueryLost):
            print(f"{waiting.pop(event.query)}: no answer")
            code = 1
        elif isinstance(event, ConnectionClosed) and event.error is not None:
            print(event.error, file=sys.stderr)
        if not waiting:
            session.connection.close(now=monotonic())  # more than once does nothing
    return code


if __name__ == "__main__":
    sys.exit(main())
