"""Every limit and every default of the resolver, with its unit and its source."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from ..arguments import check_flag, check_instance, collected
from ..configuration import ClientConfiguration, at_least, between

MAX_UPSTREAMS: Final = 16
"Upstreams of one resolver; resolv.conf(5) has 3."

MAX_ADDRESSES: Final = 16
"Addresses of one upstream that are tried; the rest is left out."

MAX_RETRIES: Final = 16
"Handshakes of one opening that follow others at the same address, since it was known why those had failed."

MAX_SENDS: Final = 3
"Times that one query leaves at the most, each time on another connection (RFC 7766, section 6.2.4, says: retry)."


class Strategy(enum.Enum):
    """Which upstream is asked first."""

    ORDERED = "ordered"
    "The first of the list that works; back to an earlier one as soon as it answers again."
    ROUND_ROBIN = "round-robin"
    "Each in its turn, a query at a time."
    RANDOM = "random"
    "Any of them, drawn for each query."
    FASTEST = "fastest"
    "The one with the shortest time to answer, of late; one that was not measured yet comes first."


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfiguration:
    """How a resolver behaves; ``connection`` says how each of its connections does."""

    strategy: Strategy = Strategy.ORDERED
    "Which upstream is asked first."

    query_timeout: float = 5.0
    "Seconds from asking to the fate: waiting, opening, asking and asking again together; as resolv.conf(5)."

    close_timeout: float = 2.0
    "Seconds that a graceful close waits for answers still owed."

    max_connections: int = 1
    "Connections of one upstream that take queries, all its addresses together (RFC 7766, section 6.2.2)."

    max_waiting: int = 1000
    "Queries that wait for a place on a connection."

    open_timeout: float = 3.0
    "Seconds for TCP and TLS of one address, and for the lookup of an upstream's name."

    next_address_delay: float = 0.25
    "Seconds until the next address is tried beside the last (RFC 8305, section 5)."

    patience: float = 1.0
    "Seconds of silence with a query unanswered, after which the server is asked for a sign of life."

    probe_timeout: float = 0.5
    "Seconds that the sign of life may take; then the connection is given up."

    first_delay: float = 0.1
    "Seconds until an upstream that has failed is tried again; twice as long after each further failure."

    max_delay: float = 30.0
    "Seconds that this delay grows to."

    max_delay_while_waiting: float = 1.0
    "Seconds that it grows to while queries wait and no other upstream works."

    refused_delay: float = 60.0
    "Seconds until an upstream that was not authenticated is tried again; twice as long after each further refusal."

    max_refused_delay: float = 3600.0
    "Seconds that this delay grows to."

    failover_rcodes: frozenset[int] = frozenset()
    "RCODEs, of 12 bits, with which the next upstream is asked; if all say so, the first such response counts."

    allow_mixed: bool = False
    "Whether upstreams that authenticate nobody (opportunistic) may stand beside those that do."

    connection: ClientConfiguration = field(default_factory=ClientConfiguration)
    "How each connection behaves."

    @property
    def least_patience(self) -> float:
        """The shortest silence, in seconds, that raises suspicion: where a server is known to be fast."""
        return self.patience / 2

    def __post_init__(self) -> None:
        check_instance("strategy", self.strategy, Strategy, "Strategy.ORDERED is one")
        check_instance("connection", self.connection, ClientConfiguration)
        check_flag("allow_mixed", self.allow_mixed)
        at_least(1, max_connections=self.max_connections, max_waiting=self.max_waiting)
        for name in _SECONDS:
            at_least(0.0, **{name: getattr(self, name)})
        what = "a set of RCODEs, whole numbers from 0 to 4095"
        rcodes = frozenset(collected("failover_rcodes", self.failover_rcodes, int, what))
        for rcode in rcodes:
            between(0, 4095, failover_rcodes=rcode)
        object.__setattr__(self, "failover_rcodes", rcodes)


_SECONDS: Final = (
    "query_timeout",
    "close_timeout",
    "open_timeout",
    "next_address_delay",
    "patience",
    "probe_timeout",
    "first_delay",
    "max_delay",
    "max_delay_while_waiting",
    "refused_delay",
    "max_refused_delay",
)
