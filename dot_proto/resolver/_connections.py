"""The connections of all upstreams: how they are opened, watched, and given up.

Opening.  An upstream's addresses take part in a race, and a failure of all is a failure of the upstream.

Silence.  A query may take its whole time on one connection: a timer for each attempt would throw slow answers away
and ask twice.  What is watched is the connection.  When a query has gone out, and nothing at all has come for a
while (``patience``), the server is asked for a sign of life by a probe; if that is not answered either, the
connection is given up.  A server that needs long for one name, and answers the probe, is left alone.

The count runs from the first query that left after the server was last heard.  It runs on when that query is
cancelled, or has timed out: a caller who never waits long would otherwise keep a dead connection for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from ..authentication import Verdict
from ..client import ClientConnection
from ..events import Event
from ..query import make_query
from ._health import Sign
from ._race import Race, in_order
from ._records import ResolverQuery, UpstreamConnection, UpstreamRecord
from .configuration import MAX_RETRIES, ResolverConfiguration
from .events import (
    AbandonConnection,
    Action,
    FindAddresses,
    OpenConnection,
    Phase,
    UpstreamDown,
    UpstreamFailure,
    UpstreamUp,
)

_MIN_TTL, _MAX_TTL = 60.0, 86_400.0
"Seconds that the addresses of an upstream's name are kept at the least, and at the most."

_LOOKUP_AGAIN: Final = 30.0
"Seconds from a lookup that has failed to the next, while addresses of before are at hand (RFC 8767, section 5)."

_PROBE: Final = make_query(".", "NS", recursion_desired=False)
"""What a server is asked for a sign of life; any response will do.  It is nobody's name, and with RD 0 nothing for the
server to ask others for: a resolver without a way to the root would otherwise hang on it."""

_PROBE_LIFETIME: Final = 3600.0
"Seconds: the engine is not to time a probe out, since the resolver does."


class Connections:
    """Opens, watches and ends connections; what it wants done and told is drained by the resolver."""

    def __init__(self, configuration: ResolverConfiguration) -> None:
        self._configuration = configuration
        self._numbers = 0
        self.due = math.inf
        "A time no later than the next thing to do."
        self.unflushed: set[int] = set()
        "Connections in which something was asked, or which were closed."
        self.by_number: dict[int, UpstreamConnection] = {}
        "Every connection that is open or being opened, by its number."
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.returned: list[ResolverQuery] = []
        "Queries whose connection was abandoned before they could leave."

    def begin(self, record: UpstreamRecord, *, now: float) -> None:
        """Open a connection to an upstream."""
        race = record.race = Race()
        if record.addresses_until > now:
            self._line_up(record, race, now=now)
            return
        race.lookup_until = now + self._configuration.open_timeout
        self.ring_at(race.lookup_until)
        self.actions.append(FindAddresses(record.upstream))

    def addresses_found(
        self, record: UpstreamRecord, addresses: Sequence[str], ttl: float, explanation: str, *, now: float
    ) -> None:
        """A lookup is over.  Where it has failed, the addresses of before are good enough: TLS will tell."""
        if addresses:
            record.addresses = tuple(addresses)
            record.addresses_until = now + min(max(ttl, _MIN_TTL), _MAX_TTL)
        elif record.addresses:
            record.addresses_until = max(record.addresses_until, now + _LOOKUP_AGAIN)
        race = record.race
        if race is None or race.lookup_until == math.inf:
            return
        race.lookup_until = math.inf
        if record.addresses:
            self._line_up(record, race, now=now)
        else:
            text = f"no address was found for its name{explanation and ': '}{explanation}"
            self._lost_race(record, UpstreamFailure(Phase.LOOKUP, None, text), refused=False, now=now)

    def opened(self, connection: UpstreamConnection, engine: ClientConnection) -> None:
        """TCP is up."""
        connection.engine = engine
        engine.takes_parts = False  # one message of a zone transfer would be taken for the zone

    def authenticated(self, connection: UpstreamConnection, verdict: Verdict, *, now: float) -> None:
        """A server has been accepted: its address has won."""
        connection.verdict = verdict
        record = connection.record
        record.opened += 1
        record.last_good = connection.address
        connection.heard(now=now)
        self.abandon_race(record, but=connection.number)
        if not record.health.is_up:
            self.probe(connection, now=now, patience=record.patience(self._configuration))
        self.watch(connection)

    def abandon_race(self, record: UpstreamRecord, *, but: int | None = None) -> None:
        """No other connection is to be opened; those that are being opened are not needed."""
        race, record.race = record.race, None
        if race is not None:
            for number in race.racers - {but}:
                self._abandon(self.by_number[number])

    def failed(
        self, connection: UpstreamConnection, failure: UpstreamFailure, *, now: float, may_retry: bool = False
    ) -> None:
        """A connection could not be opened.  ``may_retry``: it is known why, and another try may go well."""
        self._try_again_or_note(connection, failure, refused=False, may_retry=may_retry, now=now)

    def refused(self, connection: UpstreamConnection, verdict: Verdict, *, now: float) -> None:
        """A server was not authenticated."""
        failure = UpstreamFailure(Phase.AUTHENTICATION, connection.address, verdict.explanation, verdict)
        self._try_again_or_note(connection, failure, refused=True, may_retry=False, now=now)

    def handle_timeout(self, records: Iterable[UpstreamRecord], *, now: float) -> None:
        """Act on what has taken too long, and find out when the next thing is due."""
        self.due = math.inf
        for record in records:
            if record.race is not None:
                self._hurry(record, record.race, now=now)
        for connection in list(self.by_number.values()):
            if self._silence_at(connection) <= now:
                self._suspect(connection, now=now)
            self.watch(connection)

    def ring_at(self, due: float) -> None:
        """Something is to be done at this time."""
        if due < self.due:
            self.due = due

    def close(self, connection: UpstreamConnection, timeout: float, *, now: float) -> None:
        """Have it end, once the answers still owed have come, or after ``timeout`` seconds.

        The answer to a probe is owed to nobody.
        """
        assert connection.engine is not None, "what is still dialled is abandoned instead"
        connection.engine.close(now=now, timeout=timeout if connection.placed else 0.0)
        self.unflushed.add(connection.number)

    def probe(self, connection: UpstreamConnection, *, now: float, patience: float = 0.0) -> None:
        """Ask for a sign of life.  On a connection that takes no more queries, only wait for one."""
        engine = connection.engine
        assert engine is not None, "only an open connection is probed"
        if engine.capacity > 0:
            engine.send_query(_PROBE, now=now, timeout=_PROBE_LIFETIME)
            connection.record.probes += 1
            self.unflushed.add(connection.number)
        connection.probes_in_a_row += 1
        connection.suspect_until = now + patience + self._configuration.probe_timeout
        self.watch(connection)

    def watch(self, connection: UpstreamConnection) -> None:
        """Be there when its silence calls for an action."""
        self.ring_at(self._silence_at(connection))

    def _silence_at(self, connection: UpstreamConnection) -> float:
        return connection.silence_at(connection.record.patience(self._configuration))

    def _suspect(self, connection: UpstreamConnection, *, now: float) -> None:
        """Nothing came for too long: ask for a sign of life, or give the connection up."""
        if connection.suspect_until == math.inf and not connection.is_left:
            self.probe(connection, now=now)
            return
        connection.suspect_until, connection.unheard_since = math.inf, math.inf
        text = "the server is silent: queries stay unanswered, and so does the probe"
        self.blame(connection, Phase.SILENCE, text, now=now)
        self.close(connection, 0.0, now=now)

    def blame(self, connection: UpstreamConnection, phase: Phase, text: str, *, now: float) -> None:
        """An open connection has let queries down: a sign against its upstream, unless the network is another one."""
        if not connection.is_left:
            failure = UpstreamFailure(phase, connection.address, text)
            self.step(connection.record, Sign.FAILED, failure, now=now)

    def _hurry(self, record: UpstreamRecord, race: Race, *, now: float) -> None:
        if race.lookup_until <= now:
            self.addresses_found(record, (), 0.0, "it took too long", now=now)
        limit = self._configuration.open_timeout
        for connection in [self.by_number[number] for number in race.racers]:
            if connection.opened_at + limit <= now:
                phase = Phase.TCP if connection.engine is None else Phase.TLS
                text = f"not open within {limit:g} s"
                self._abandon(connection)
                self._note(connection, UpstreamFailure(phase, connection.address, text), refused=False, now=now)
        if record.race is race and race.next_at <= now:
            self._start_next(record, race, now=now)
        if record.race is race:
            limit = self._configuration.open_timeout
            openings = (self.by_number[number].opened_at + limit for number in race.racers)
            self.ring_at(min(race.lookup_until, race.next_at, *openings))

    def step(self, record: UpstreamRecord, sign: Sign, failure: UpstreamFailure | None = None, *, now: float) -> None:
        """Something was learnt about an upstream."""
        health = record.health
        if not health.step(sign, now=now, failure=failure):
            return
        if sign is Sign.ANSWERED:
            self.events.append(UpstreamUp(record.upstream))
        elif failure is not None:
            self.events.append(UpstreamDown(record.upstream, failure, health.retry_at(is_waited_for=False)))

    def drop(self, connection: UpstreamConnection) -> None:
        """A connection is no more.  Queries that have not left on it, and are not reported lost, wait again."""
        del self.by_number[connection.number]
        del connection.record.connections[connection.number]
        for query in connection.placed.values():
            query.sends -= 1
            self.returned.append(query)
        connection.placed.clear()

    # Private methods.

    def _line_up(self, record: UpstreamRecord, race: Race, *, now: float) -> None:
        race.remaining.extend(in_order(record.addresses, record.last_good))
        self._start_next(record, race, now=now)

    def _start_next(self, record: UpstreamRecord, race: Race, *, now: float) -> None:
        self._dial(record, race, race.remaining.popleft(), now=now)
        race.next_at = now + self._configuration.next_address_delay if race.remaining else math.inf
        self.ring_at(race.next_at)

    def _dial(self, record: UpstreamRecord, race: Race, address: str, *, now: float) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self.by_number[number] = record.connections[number] = UpstreamConnection(number, record, address, now=now)
        race.racers.add(number)
        self.ring_at(now + self._configuration.open_timeout)
        self.actions.append(OpenConnection(number, record.upstream, address))

    def _abandon(self, connection: UpstreamConnection) -> None:
        self.drop(connection)
        self.actions.append(AbandonConnection(connection.number))

    def _try_again_or_note(
        self,
        connection: UpstreamConnection,
        failure: UpstreamFailure,
        *,
        refused: bool,
        may_retry: bool,
        now: float,
    ) -> None:
        self.drop(connection)
        record, address = connection.record, connection.address
        race = record.race
        assert race is not None, "what is being opened takes part in a race"
        if may_retry and race.retries < MAX_RETRIES:
            race.retries += 1
            race.racers.discard(connection.number)
            self._dial(record, race, address, now=now)
        else:
            self._note(connection, failure, refused=refused, now=now)

    def _note(self, connection: UpstreamConnection, failure: UpstreamFailure, *, refused: bool, now: float) -> None:
        """An address has failed: the next one is tried at once; where there is none, the opening has failed."""
        record = connection.record
        race = record.race
        record.refused += refused
        assert race is not None, "what is being opened takes part in a race"
        race.racers.remove(connection.number)
        race.note(failure, refused=refused)
        if race.remaining:
            self._start_next(record, race, now=now)
        elif not race.racers:
            assert race.failure is not None
            self._lost_race(record, race.failure, refused=race.was_refused, now=now)

    def _lost_race(self, record: UpstreamRecord, failure: UpstreamFailure, *, refused: bool, now: float) -> None:
        record.race = None
        record.failed += 1
        self.step(record, Sign.REFUSED if refused else Sign.FAILED, failure, now=now)
