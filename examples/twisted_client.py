"""The same on Twisted, whose reactor is neither asyncio's loop nor trio's.

A framework that calls you turns the driver inside out, and the duties stay: every callback tells the session what
happened, and then :meth:`DoTClient.act` sends what it has to send, re-arms one timer, and hangs up when it is over.
TLS is the session's here too, so the transport is plain TCP.

    python twisted_client.py 1.1.1.1 example.com example.net --name cloudflare-dns.com
"""

from __future__ import annotations

import contextlib
import os
import sys
from time import monotonic

from arguments import Arguments, arguments, summary
from twisted.internet import reactor
from twisted.internet.error import ConnectionDone, ReactorNotRunning
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from dot_io.tls import ClientContext, TLSClient
from dot_proto import ConnectionClosed, Event, QueryLost, QueryTimedOut, ResponseReceived, make_query

LAST_WORDS = 1.0
"Seconds for close_notify to leave, where a peer does not read."


class DoTClient(Protocol):
    """One connection: asks all names at once and prints each answer as it comes."""

    def __init__(self, given: Arguments) -> None:
        self.given = given
        self.waiting: dict[int, str] = {}
        self.code = 1
        self.timer = None

    def connectionMade(self) -> None:
        """TCP is up; the ClientHello leaves with the first :meth:`act`."""
        self.transport.setTcpNoDelay(True)
        context, server = ClientContext(self.given.policy), (self.given.host, self.given.port)
        # The reactor's clock is the wall's, which may be set back; deadlines want one that is not.
        self.session = TLSClient(context, server=server, entropy=os.urandom, now=monotonic())
        # Asking may begin at once: the engine holds the queries until the server has been authenticated.
        send, timeout = self.session.connection.send_query, self.given.timeout
        self.waiting = {send(make_query(name), now=monotonic(), timeout=timeout): name for name in self.given.names}
        self.code = 0
        self.act([])

    def dataReceived(self, data: bytes) -> None:
        """Octets have come, cut anywhere."""
        self.act(self.session.receive_data(data, now=monotonic()))

    def connectionLost(self, reason: Failure) -> None:
        """TCP has ended: by our own hand, by the peer's, or by a failure."""
        if reason.check(ConnectionDone):
            self.act(self.session.receive_eof(now=monotonic()))
        else:
            self.act(self.session.fail(reason.getErrorMessage(), now=monotonic()))
        self.factory.ended()

    def ring(self) -> None:
        """The timer: one for the connection, however many queries there are."""
        self.act(self.session.handle_timeout(now=monotonic()))

    def act(self, events: list[Event]) -> None:
        """Take in what the session reports, then do what it wants: the whole duty of a driver."""
        for event in events:
            self.process(event)
        self.transport.writeSequence(self.session.data_to_send())
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        deadline = self.session.next_timeout()
        if self.session.is_finished:
            self.transport.loseConnection()  # once all that was written has left
            self.timer = reactor.callLater(LAST_WORDS, self.transport.abortConnection)
        elif deadline is not None:
            self.timer = reactor.callLater(max(deadline - monotonic(), 0), self.ring)

    def process(self, event: Event) -> None:
        """What the application makes of an event."""
        if isinstance(event, ResponseReceived):
            print(summary(self.waiting.pop(event.query), event.message))
        elif isinstance(event, QueryTimedOut | QueryLost):
            print(f"{self.waiting.pop(event.query)}: no answer")
            self.code = 1
        elif isinstance(event, ConnectionClosed) and event.error is not None:
            print(event.error, file=sys.stderr)
        if not self.waiting:
            self.session.connection.close(now=monotonic())  # more than once does nothing


class DoTClientFactory(ClientFactory):
    """Twisted's way to one protocol object, and to the end of the program."""

    noisy = False

    def __init__(self, given: Arguments) -> None:
        self.client = DoTClient(given)

    def buildProtocol(self, addr: IAddress) -> DoTClient:
        """There is one connection only."""
        self.client.factory = self
        return self.client

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """No TCP connection."""
        print(reason.getErrorMessage(), file=sys.stderr)
        self.ended()

    def ended(self) -> None:
        """The connection is gone, and with it the reason to go on."""
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()


def main() -> int:
    """Ask all names at once; 0 if every name was answered."""
    given = arguments(__doc__)
    factory = DoTClientFactory(given)
    reactor.connectTCP(given.host, given.port, factory, timeout=given.timeout)
    reactor.run()
    return factory.client.code


if __name__ == "__main__":
    sys.exit(main())
