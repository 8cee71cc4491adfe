"""The resolver: upstreams that are dialled as they are needed, for any number of threads; ``sharing`` has how."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Final, Self

from dot_proto import DoTError, Event
from dot_proto.arguments import check_seconds
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import FailureReason, FindAddresses, OpenConnection, QueryFailed, UpstreamStatistics
from dot_proto.resolver.machine import StubResolver
from dot_proto.resolver.upstream import Upstream

from .._addresses import AddressQueries
from .._client import CLOSE_GRACE, CLOSE_TIMEOUT, MAX_IN_FLIGHT, check_many
from .._clock import monotonic
from .._dial import FAILURES, connect_error, remaining
from .._fate import Fate, outcome, response
from .._lookup import Lookup
from .._resolver import ResolverBase, log
from .._transport import close, failure_of_connecting, start_connecting
from ..tls import TLSClient
from .bootstrap import Search, SystemSearch, UpstreamSearch
from .driver import SocketDriver
from .poller import Poller, Watched
from .sharing import NestedCallError, SharedByThreads

UNWAKEABLE_WAIT: Final = 0.05
"Seconds to wait at a time where no descriptors are left for another thread to come in by."

MAX_NOTES: Final = 1000
"Of the log that wait to be told; older ones give way."

RESTED_A_WHILE: Final = 0.1
"Seconds without a query, after which a connection's own deadlines may have come: it may have to be closed by now."

Wait = tuple[list[Watched], float]
"What to wait for: the sockets, and until when at the latest, in seconds on the monotonic clock."

Ready = dict[socket.socket, bool]
"The sockets that can be used, and whether they should be read."


@dataclass(frozen=True, slots=True)
class _Dial:
    """TCP that is on its way."""

    action: OpenConnection
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class _Connection:
    """A connection whose TCP has come up."""

    action: OpenConnection
    sock: socket.socket
    session: TLSClient
    driver: SocketDriver


class _Call:
    """What one call waits for."""

    def __init__(self) -> None:
        self.machine: StubResolver | None = None
        "Where it has asked; handles of another one mean other queries."
        self.positions: dict[int, int] = {}
        "By handle: the position of each message that has no fate yet."
        self.fates: deque[Fate] = deque()


class Resolver(ResolverBase, SharedByThreads[Wait, Ready]):
    """A stub resolver that stays up: it dials when it is asked, and again when connections end.

    Threads may share it.  Octets move while some thread waits in a call; no thread runs behind it.  ``with`` closes it
    at the block's end.  Raises :class:`~dot_proto.LocalProtocolError` for upstreams that cannot stand together.
    """

    _now = staticmethod(monotonic)

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        share_records: bool = False,
    ) -> None:
        ResolverBase.__init__(self, upstreams, configuration, share_records=share_records)
        SharedByThreads.__init__(self, threading.RLock())
        self._poller = Poller()
        self._dials: dict[int, _Dial] = {}
        self._connections: dict[int, _Connection] = {}
        self._searches: dict[int, Search] = {}
        self._numbers = count()
        self._has_changed = False
        "Whether the mover waits for what is not, or no longer, all that there is."
        self._unflushed: set[int] = set()
        self._untold: deque[Callable[[], None]] = deque()
        "What the machine is told when it is not amid its actions: an address, or a name, that could not even be tried."
        self._is_closing = False
        self._notes: deque[tuple[int, str, tuple[object, ...]]] = deque(maxlen=MAX_NOTES)
        "For the log, whose handlers may ask us in their turn: told when nothing of ours is under way."

    def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds, and covers waiting, dialling, asking, and asking again; the configuration's by
        default.

        Raises :class:`~dot_io.errors.QueryTimeoutError`; :class:`~dot_io.errors.NoUpstreamError` where nobody can be
        asked in time; :class:`~dot_io.errors.ConnectionLostError` where connections ended and the query may not be
        sent again; :class:`~dot_proto.LocalProtocolError` for a message that is no query, and after :meth:`close`.
        """
        call = _Call()
        try:
            self._ask_all(call, deque([(0, message)]), timeout)
            self._wait_until(call.fates.__len__)
        except BaseException:
            self._give_up(call)
            raise
        finally:
            if self._notes:
                self._tell_log()
        return response(call.fates[0])

    def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> Generator[tuple[int, Fate]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.resolver.events.QueryAnswered` or
        :class:`~dot_proto.resolver.events.QueryFailed`.  Leaving the loop early cancels what is in flight.
        """
        check_many(messages, timeout, max_in_flight)
        call = _Call()
        source = enumerate(messages)
        waiting = deque(islice(source, max_in_flight))
        try:
            while waiting or call.positions:
                self._ask_all(call, waiting, timeout)
                self._wait_until(call.fates.__len__)
                self._tell_log()
                while call.fates:
                    fate = call.fates.popleft()
                    position = call.positions.pop(fate.query, None)
                    if position is not None:  # else an interruption has had its fate told twice
                        yield position, fate
                waiting.extend(islice(source, max_in_flight - len(call.positions) - len(waiting)))
        finally:
            self._give_up(call)

    def resolve(self, name: str, types: Iterable[str] = ("A", "AAAA"), *, timeout: float | None = None) -> list[str]:
        """The addresses of a name, as texts: those of the first of ``types`` first.

        ``types`` are "A" and "AAAA"; both are asked at once, within ``timeout`` seconds.  Where one has addresses, a
        failure of the other does not count.  Raises what :meth:`query` raises;
        :class:`~dot_io.errors.NoAddressError`, which tells a name that does not exist from one without addresses;
        :class:`~dot_proto.MessageError` for a text that is no name, and for a response that cannot be read.
        """
        return (self._resolve(name, types, timeout))[0]

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """The counters of each upstream; they hold no name that was asked for."""
        with self._lock:
            return super().statistics()

    def network_changed(self) -> None:
        """Say that the machine is in another network: connections are opened anew, sessions and failures forgotten."""
        self._leave_network()
        self._tell_log()

    def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other threads are waited for, ``timeout`` seconds long."""
        deadline = monotonic() + check_seconds("timeout", timeout) + CLOSE_GRACE
        try:
            with self._lock, self._work:
                self._is_closing = True
                self._machine.close(now=self._now(), timeout=timeout)
                self._do()
                self._hand_over()
            self._wait_until(lambda: not self._connections, deadline)
        finally:
            with self._lock, self._work:
                for connection in list(self._connections.values()):
                    self._process(connection.action, connection.session, connection.driver.abort())
                    self._drop(connection)
                self._ring()
                self._wake_all()
                searches, self._searches = self._searches, {}
            self._end(searches.values())
            self._wait_for_movers()
            self._poller.close()
            self._tell_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that is left by an exception waits for nothing that is still owed.
        self.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)

    def forget_parents(self) -> None:
        """In a forked child: begin anew.  A query that was the parent's is lost."""
        for connection in self._connections.values():
            connection.driver.forget_parents()
        self._forget_threads(threading.RLock())
        # Not closed: their connections are the parent's, and so are their threads, which may have their locks.
        self._bootstraps.clear()
        self._searches.clear()
        self._poller.close()
        self._poller = Poller()
        super().forget_parents()

    # What the machine wants done.

    def _open(self, action: OpenConnection) -> None:
        try:
            sock = _start_dialling(action.address, action.upstream.port)
        except DoTError as error:
            self._untold.append(partial(self._failed, action, error))
        else:
            self._dials[action.connection] = _Dial(action, sock)
            self._has_changed = True

    def _abandon(self, number: int) -> None:
        dial, connection = self._dials.pop(number, None), self._connections.get(number)
        if dial is not None:
            self._poller.forget(dial.sock)
            close(dial.sock)
            self._has_changed = True
        if connection is not None:
            connection.driver.abort()
            self._drop(connection)

    def _find(self, action: FindAddresses) -> None:
        upstream, number = action.upstream, next(self._numbers)
        name = upstream.name or ""

        def tell() -> None:
            self._untold.append(partial(self._looked_up, action, number))
            self._poller.wake()

        self._has_changed = True
        with suppress(OSError):  # no descriptors: then we look around often
            self._poller.allow_waking()  # before there is somebody who wakes
        try:
            if upstream.bootstrap == "system":
                self._searches[number] = SystemSearch(name, upstream.port, tell)
            else:
                self._searches[number] = UpstreamSearch(partial(self._bootstrap_of(upstream)._resolve, name), tell)
        except DoTError as error:  # no thread can be started
            self._untold.append(partial(self._found, action, (), 0.0, error))

    def _end(self, searches: Iterable[Search]) -> None:
        """Of the names of upstreams: nobody comes for the results any more."""
        for bootstrap in list(self._bootstraps.values()):
            bootstrap.close(timeout=0.0)
        for search in searches:
            search.close()

    def _looked_up(self, action: FindAddresses, number: int) -> None:
        search = self._searches.pop(number, None)
        if search is None:
            return  # all was broken off meanwhile
        try:
            addresses, ttl = search.result()
        except DoTError as error:
            self._found(action, (), 0.0, error)
        else:
            self._found(action, addresses, ttl, None)

    def _leave_network(self) -> None:
        with self._lock, self._work:
            super()._leave_network()
            self._hand_over()

    def _flush(self, number: int) -> None:
        self._unflushed.add(number)

    def _set_timer(self, due: float) -> None:
        """Whoever waits looks when it is."""

    def _note(self, level: int, text: str, *arguments: object) -> None:
        self._notes.append((level, text, arguments))

    def _take(self, events: list[Event]) -> None:
        super()._take(events)
        if events and self._followers:
            self._wake_followers()

    # What the threads that share it move, and wait for.

    def _prepare(self) -> None:
        self._catch_up()
        self._has_changed = False

    def _hand_over(self) -> None:
        self._catch_up()
        if self._mover is not None and (
            self._has_changed or any(c.driver.is_write_paused for c in self._connections.values())
        ):
            self._has_changed = False
            self._wake_mover()

    def _next_wait(self, deadline: float | None) -> Wait:
        watched, until = self._wanted()
        if deadline is not None and deadline < until:
            until = deadline
        try:
            if self._searches:
                self._poller.allow_waking()
            else:
                self._poller.share()
        except OSError:
            until = min(until, self._now() + UNWAKEABLE_WAIT)
        return watched, until

    def _select(self, wait: Wait) -> Ready:
        watched, until = wait
        return self._poller.select(watched, remaining(until, now=monotonic()))

    def _act(self, brought: Ready) -> bool:
        has_happened = bool(brought)
        for dial in list(self._dials.values()):
            if dial.sock in brought:
                self._dialled(dial)
        for connection in list(self._connections.values()):
            if events := connection.driver.act(brought.get(connection.sock, False)):
                has_happened = True
                self._process(connection.action, connection.session, events)
            if connection.driver.is_finished:
                self._drop(connection)
        if self._timer_at <= self._now():
            has_happened = True
            self._ring()
        if self._untold or self._unflushed:
            self._catch_up()
        return has_happened

    def _look(self) -> None:
        # With a poller of its own, since the mover waits at the other one.
        self._act(Poller().select(self._wanted()[0], 0.0))

    def _next_timeout(self) -> float:
        return self._wanted()[1]

    def _wake_mover(self) -> None:
        self._poller.wake()

    def _break_off(self) -> None:
        for connection in self._connections.values():
            connection.driver.cut_off()
        self._begin_anew()
        self._wake_all()

    # Private methods.

    def _resolve(
        self, name: str, types: Iterable[str] = ("A", "AAAA"), timeout: float | None = None
    ) -> tuple[list[str], float]:
        """The addresses, and the seconds that they may be kept."""
        queries = AddressQueries(name, types)
        fates = self.query_many(queries.messages, timeout=timeout)
        return queries.read({position: outcome(fate) for position, fate in fates})

    def _ask_all(self, call: _Call, waiting: deque[tuple[int, bytes]], timeout: float | None) -> None:
        with self._lock, self._work:
            if call.fates:
                return  # all was broken off: the call has to hear of that first
            call.machine = self._machine
            if self._mover is None:
                self._notice()
            while waiting:
                position, message = waiting.popleft()
                call.positions[self._ask(message, timeout, call.fates.append)] = position
            self._do()

    def _notice(self) -> None:
        """Take in what happened while nobody waited: a server may have closed an idle connection."""
        has_rested = self._now() - self._asked_at > RESTED_A_WHILE
        for connection in list(self._connections.values()):
            if events := connection.driver.poll() if has_rested else connection.driver.take():
                self._process(connection.action, connection.session, events)
                if connection.driver.is_finished:
                    self._drop(connection)
        if self._timer_at <= self._now():
            self._ring()

    def _give_up(self, call: _Call) -> None:
        """A call waits no more."""
        try:
            with self._lock, self._work:
                self._cancel_all(call)
                self._hand_over()
        except NestedCallError:  # the garbage collector ends a generator amid our own work
            self._untold.append(partial(self._cancel_all, call))

    def _tell_log(self) -> None:
        while self._notes:
            try:
                level, text, arguments = self._notes.popleft()
            except IndexError:  # another thread has just told the last one
                return
            log.log(level, text, *arguments)

    def _cancel_all(self, call: _Call) -> None:
        if call.machine is self._machine:
            for handle in call.positions:
                self._cancel(handle)

    def _wanted(self) -> Wait:
        """What all that there is waits for."""
        watched: list[Watched] = [(dial.sock, False, True) for dial in self._dials.values()] if self._dials else []
        until = self._timer_at
        for connection in self._connections.values():
            reading, writing, due = connection.driver.next_wait(until)
            watched.append((connection.sock, reading, writing))
            until = min(until, due)
        return watched, until

    def _dialled(self, dial: _Dial) -> None:
        """TCP is up, or has failed."""
        action, sock = dial.action, dial.sock
        del self._dials[action.connection]
        self._poller.forget(sock)
        failure = failure_of_connecting(sock)
        if failure is not None:
            self._failed(action, connect_error(action.address, action.upstream.port, failure))
            return
        try:
            session = self._new_session(action, sock)
        except DoTError as error:
            close(sock)
            self._failed(action, error)
            return
        driver = SocketDriver(sock, session, quickack=True)
        self._connections[action.connection] = _Connection(action, sock, session, driver)
        self._unflushed.add(action.connection)
        self._opened(action, session)

    def _catch_up(self) -> None:
        """Until the machine has been told everything, and nothing is left that can be sent now."""
        while self._untold or self._unflushed:
            while self._untold:
                self._untold.popleft()()
            connection = self._connections.get(self._unflushed.pop()) if self._unflushed else None
            if connection is not None:
                if events := connection.driver.flush():
                    self._process(connection.action, connection.session, events)
                if connection.driver.is_finished:
                    self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.action.connection, None) is not None:
            self._poller.forget(connection.sock)
            connection.driver.close()
            self._has_changed = True

    def _begin_anew(self) -> None:
        """Without the connections, the machine and the queries of before; whether they were answered, nobody knows."""
        for dial in self._dials.values():
            self._poller.forget(dial.sock)
            close(dial.sock)
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._dials.clear()
        self._end(self._searches.values())
        self._searches.clear()
        self._unflushed.clear()
        self._untold.clear()
        for handle, waiter in self._waiters.items():
            waiter(QueryFailed(handle, FailureReason.LOST, False, (), ()))
        super()._begin_anew()
        if self._is_closing:
            self._machine.close(now=self._now())


def _start_dialling(address: str, port: int) -> socket.socket:
    with Lookup(address, port, _nothing) as lookup:
        ((_, found), *_) = lookup.addresses()
    try:
        sock, _ = start_connecting(*found)
    except FAILURES as error:
        raise connect_error(address, port, error) from error
    return sock


def _nothing() -> None:
    """Nobody is told: an address needs no lookup."""
