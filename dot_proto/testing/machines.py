"""State machines for Hypothesis that play with a connection in any order, against a model that foretells all it does.

:class:`ClientMachine` and :class:`ServerMachine` check the promises of the engine: what is reported, what leaves
octet for octet, when the next deadline is, what a caller's mistake raises, and that it changes nothing.  When a
connection has ended, the calls on it are replayed on another, with the mistakes and without, and must come out as
they did.  Time, limits, keepalive, cancelling, draining, authentication and every way to end come in any order.

Run one under pytest by naming its test case, or at once::

    TestServer = ServerMachine.TestCase
    run_state_machine_as_test(ServerMachine)  # from hypothesis.stateful

To play with a connection of one's own, a proxy or a subclass for instance, say how it is made::

    class Machine(ServerMachine):
        def make_connection(self, configuration):
            return MyServerConnection(configuration)

Where a law is broken, Hypothesis prints the steps, whose arguments are plain values: pasted into a test they run as
they stand.  The :class:`AssertionError` has the calls on the connection as a note, in Python, octets and times
included.
"""

from __future__ import annotations

from .client_machine import ClientMachine as ClientMachine
from .recording import Call as Call
from .recording import Recording as Recording
from .server_machine import ServerMachine as ServerMachine

__all__ = ["Call", "ClientMachine", "Recording", "ServerMachine"]
