"""The fault matrix: what servers do wrong, and what becomes of those who ask them.

The tests hold every backend to this table, and docs/faults.md is made from it:
``cd tests && python -m conformance.faults``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from conformance import misbehaviour as peer
from conformance.platform_edges import section
from dot_io.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    Failure,
    HandshakeError,
    QueryTimeoutError,
)
from dot_proto import Cause, ClientConfiguration, DoTError, Reason
from dot_proto import Fault as Code
from support.peers import Script

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

UPDATE = 5
"The opcode (RFC 2136, section 1.3)."


@dataclass(frozen=True)
class Fate:
    """What becomes of one query, or of ``connect()``.  Without an error: an answer, or a connection."""

    error: type[DoTError] | None = None
    code: Cause | Failure | Reason | None = None
    "``cause`` of a lost connection, ``failure`` of a handshake, ``verdict.reason`` of a refusal."
    fault: Code | None = None
    "What the peer did wrong, where it broke the protocol."
    is_safe: bool | None = None
    "``safe_to_resend``; a query that could not be sent at all always is."
    says: str = ""
    "The text for people, with letters in the place of times, ports and pins."


OK = Fate()
LATE = Fate(QueryTimeoutError, says="no answer within TIME s")


def discarded(what: str) -> Fate:
    """A time-out after an answer that answers nothing (FR-44)."""
    return Fate(
        QueryTimeoutError,
        says=f"no answer within TIME s; on this connection discarded from the server: a message {what}",
    )


WRONG_ID = discarded("with an id that no query has")
WRONG_QUESTION = discarded("with another question than the query's")
QR_0 = discarded("that is a query and no response (QR 0)")


def lost(cause: Cause, says: str, fault: Code | None = None) -> Fate:
    """The end of a query together with its connection."""
    return Fate(ConnectionLostError, cause, fault, True, says)


def no_session(failure: Failure, says: str) -> Fate:
    """The end of a handshake."""
    return Fate(HandshakeError, failure, Code.TLS, says=says)


CLOSED = lost(Cause.PEER_CLOSED, "the server closed the connection")
UNSAFE = replace(CLOSED, is_safe=False)
GO_AWAY = lost(Cause.GO_AWAY, "the server takes no more queries on this connection (keepalive timeout 0)")
TRUNCATED = lost(Cause.PEER_FAULT, "the stream ended inside a message", Code.TRUNCATED)
SHORT = lost(Cause.PEER_FAULT, "a length prefix below 12, the size of a DNS header", Code.SHORT_FRAME)
FLOODED = lost(Cause.PEER_FAULT, "more than 64 messages in a row that belong to nothing", Code.TOO_MANY_UNSOLICITED)
EXHAUSTED = lost(Cause.EXHAUSTED, "the server has left too many queries unanswered on this connection")
DEAD = lost(
    Cause.PEER_SILENT,
    "the server has fallen silent: queries timed out one after the other, and nothing came from it",
)
CUT = lost(Cause.TRANSPORT_FAILED, "the peer closed TCP without TLS close_notify", Code.NO_CLOSE_NOTIFY)
RESET = lost(Cause.TRANSPORT_FAILED, "Connection reset by peer", Code.RESET)


def broken(words: str) -> Fate:
    """The end of a TLS session, in OpenSSL's words."""
    return lost(Cause.TRANSPORT_FAILED, f"the TLS session broke: {words}", Code.TLS)


BROKEN = broken("decryption failed or bad record mac")
BAD_ALERT = broken("invalid alert")
INTERNAL = broken("tlsv1 alert internal error")
ENDED_BY_ALERT = no_session(Failure.ALERT, "the peer ended the handshake with the alert handshake_failure")
ENDED_IN_HANDSHAKE = no_session(Failure.END_OF_STREAM, "the peer ended the TLS session inside the handshake")
NO_ALERT = no_session(Failure.OTHER, "the TLS handshake failed: invalid alert")
TOO_MANY_WARNINGS = no_session(Failure.OTHER, "the TLS handshake failed: too many warn alerts")
SILENT = no_session(Failure.TIMED_OUT, "the TLS handshake took too long")
NO_TLS_1_2 = no_session(Failure.NO_COMMON_VERSION, "the peer has no TLS version in common with us (1.2 and 1.3)")


@dataclass(frozen=True)
class Tls:
    """The TLS of a misbehaving server."""

    chain: str = "leaf intermediate"
    "Who is in the certificate chain, by the names of :class:`support.pki.Pki`."
    version: ssl.TLSVersion | None = None
    "The only one it has."
    stalls: bool = False
    "Whether nothing follows its ServerHello."
    refuses_sessions: bool = False
    "Whether it ends a handshake in which an earlier session is offered."

    by_hand: bool = False
    "Whether its records are made by hand: see :mod:`support.forging`."

    def context(self, file: Path) -> ssl.SSLContext:
        """Without any of our own settings."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if self.version is not None:
            context.minimum_version = context.maximum_version = self.version
        return context


@dataclass(frozen=True)
class Fault:
    """What one server does, and what must come of it on every backend."""

    id: str
    does: str
    'In words that follow "a server that".'
    conduct: Script | None
    "``None``: nobody listens."
    fates: tuple[tuple[Fate, ...], ...] = ()
    "Of queries: those in one tuple are asked at a time, and the next when these have their fates."
    connects: Fate = OK
    tls: Tls | None = Tls()
    "``None``: it gets bare TCP."
    is_pinned: bool = False
    "Whether the client knows the server by a pin, rather than by name."
    is_resumed: bool = False
    "Whether the client was connected before, and offers to resume that session."
    configuration: ClientConfiguration | None = None
    "The client's, where it is not the default."
    opcode: int = 0


BY_HAND = Tls(by_hand=True)

EVERY = (
    # How connecting fails.
    Fault(
        "nobody-listens",
        "is not there",
        None,
        connects=Fate(ConnectError, says="no TCP connection to 127.0.0.1 port PORT: Connection refused"),
    ),
    Fault("never-handshakes", "accepts, and never shakes hands", peer.never_answers, connects=SILENT, tls=None),
    Fault("stalls", "stalls after ServerHello", peer.hears_nothing, connects=SILENT, tls=Tls(stalls=True)),
    Fault(
        "closes-in-handshake",
        "closes inside the handshake",
        peer.closes_tcp,
        connects=no_session(Failure.END_OF_STREAM, "the peer closed the connection inside the handshake"),
        tls=None,
    ),
    Fault(
        "resets-in-handshake",
        "resets TCP inside the handshake",
        peer.resets_tcp,
        connects=no_session(Failure.END_OF_STREAM, "TCP failed inside the handshake: Connection reset by peer"),
        tls=None,
    ),
    Fault(
        "plain-dns",
        "speaks DNS without TLS",
        peer.plain_dns,
        connects=no_session(Failure.NOT_TLS, "the peer does not speak TLS but, it seems, DNS over plain TCP"),
        tls=None,
    ),
    Fault(
        "http",
        "speaks HTTP",
        peer.http,
        connects=no_session(Failure.NOT_TLS, "the peer does not speak TLS but, it seems, HTTP"),
        tls=None,
    ),
    *(
        Fault(id, f"instead of ServerHello sends {does}", peer.plain_alerts(*records), connects=fate, tls=None)
        for id, does, records, fate in (
            ("plain-alert", "a fatal alert", [b"\x02\x28"], ENDED_BY_ALERT),
            ("plain-alert-then-data", "a fatal alert and more", [b"\x02\x28", bytes(500)], ENDED_BY_ALERT),
            ("plain-split-alert", "a fatal alert in two records", [b"\x02", b"\x28"], NO_ALERT),
            ("plain-long-alert", "an alert of 16,000 octets", [b"\x02\x28" * 8000], NO_ALERT),
            ("plain-alert-of-three", "an alert of three octets", [b"\x02\x28\x00"], NO_ALERT),
            ("plain-empty-alert", "an alert of no octets", [b""], NO_ALERT),
            ("plain-warnings", "1,000 warnings", [b"\x01\x5a"] * 1000, TOO_MANY_WARNINGS),
            ("plain-close-notify", "close_notify", [b"\x01\x00"], ENDED_IN_HANDSHAKE),
        )
    ),
    Fault("tls-1.1", "has TLS 1.1 and nothing newer", peer.tls_1_1, connects=NO_TLS_1_2, tls=None),
    Fault(
        "appended-chain",
        "sends its own certificate with the true ones behind it, to a client that knows a name",
        peer.hears_nothing,
        connects=Fate(
            AuthenticationError,
            Reason.UNTRUSTED,
            Code.PEER_REFUSED,
            says="the server is refused: the chain does not lead to a trust anchor: WORDS (OpenSSL code 18)",
        ),
        tls=Tls("attacker leaf intermediate"),
    ),
    Fault(
        "appended-pin",
        "sends its own certificate with the true ones behind it, to a client that knows a pin",
        peer.hears_nothing,
        connects=Fate(
            AuthenticationError,
            Reason.PIN,
            Code.PEER_REFUSED,
            says="the server is refused: no pin matches; the server's key has PIN; the pin belongs to certificate #2, "
            "which was sent but proves nothing: to pin an issuer give a name too, with issuer_pins or trust_anchors",
        ),
        tls=Tls("attacker leaf intermediate"),
        is_pinned=True,
    ),
    # What is odd, and no fault.
    Fault("tls-1.2", "has TLS 1.2 alone", peer.serve, ((OK, OK),), tls=Tls(version=ssl.TLSVersion.TLSv1_2)),
    Fault("tls-1.3", "has TLS 1.3 alone", peer.serve, ((OK, OK),), tls=Tls(version=ssl.TLSVersion.TLSv1_3)),
    Fault("one-octet", "sends one octet a TLS record", peer.one_octet_a_record, ((OK, OK), (OK,))),
    Fault("backwards", "answers in the opposite order", peer.answers_backwards, ((OK,) * 4, (OK,))),
    Fault("longest", "answers with 65535 octets", peer.answers_at_length, ((OK,), (OK,))),
    Fault("twice", "answers everything twice", peer.answers_twice, ((OK, OK), (OK,))),
    Fault(
        "no-question",  # FR-6
        "answers NXDOMAIN and NOERROR without a question (QDCOUNT 0)",
        peer.leaves_out_the_question,
        ((OK,) * 4, (OK,)),
    ),
    Fault("unsolicited", "sends a response that nobody asked for", peer.one_unsolicited_response, ((OK,), (OK,))),
    Fault(
        "many-unsolicited",
        "sends 64 responses in a row that nobody asked for",
        peer.as_many_unsolicited_as_allowed,
        ((OK,), (OK,)),
    ),
    Fault("no-answer-to-close", "never answers close_notify", peer.never_answers_close_notify, ((OK,),)),
    Fault(
        "refuses-sessions",
        "ends each handshake in which an earlier session is offered",
        peer.serve,
        ((OK,),),
        tls=Tls(refuses_sessions=True),
        is_resumed=True,
    ),
    # What costs a query its answer, and no other.
    Fault("never-answers", "never answers", peer.never_answers, ((LATE, LATE, LATE),)),
    Fault("late", "gives the first answer too late", peer.answers_late, ((LATE,), (OK,), (OK,))),
    Fault("wrong-id", "answers the first query under a wrong id", peer.wrong_id, ((WRONG_ID, OK), (OK,))),
    Fault(
        "wrong-question",
        "answers the first query with another question",
        peer.wrong_question,
        ((WRONG_QUESTION, OK), (OK,)),
    ),
    Fault("qr-0", "sends the first query back (QR is 0)", peer.echoes, ((QR_0, OK), (OK,))),
    Fault("few-warnings", "sends 4 TLS warnings in a row", peer.a_few_warnings, ((OK, OK), (OK,)), tls=BY_HAND),
    # What costs the connection.
    *(
        Fault(id, does, conduct, ((OK, CLOSED), (CLOSED,)), tls=BY_HAND)
        for id, does, conduct in (
            ("close-notify-twice", "sends close_notify twice", peer.close_notify_twice),
            ("data-after-close-notify", "answers after close_notify", peer.data_after_close_notify),
            ("garbage-after-close-notify", "sends what is no TLS after close_notify", peer.garbage_after_close_notify),
            ("reset-after-close-notify", "sends close_notify and resets TCP", peer.resets_after_close_notify),
        )
    ),
    *(
        Fault(id, does, conduct, ((OK, fate), (fate,)), tls=BY_HAND)
        for id, does, conduct, fate in (
            (
                "fatal-alert",
                "sends a fatal alert, and answers behind it",
                peer.fatal_alert_then_data,
                INTERNAL,
            ),
            ("two-alerts", "sends two alerts in one TLS record", peer.two_alerts_in_one_record, BAD_ALERT),
            ("alert-of-three", "sends an alert of three octets", peer.alert_of_three_octets, BAD_ALERT),
            ("split-alert", "sends an alert in two TLS records", peer.alert_in_two_records, BAD_ALERT),
            ("long-alert", "sends an alert of 16,000 octets", peer.a_long_alert, BAD_ALERT),
            ("empty-alert", "sends an alert of no octets", peer.an_empty_alert, broken("bad length")),
            ("warnings", "sends 1,000 TLS warnings in a row", peer.a_flood_of_warnings, broken("too many warn alerts")),
            ("end-in-record", "ends TCP in the middle of a TLS record", peer.ends_in_mid_record, CUT),
            ("end-in-header", "ends TCP in the middle of a TLS record's header", peer.ends_in_mid_header, CUT),
        )
    ),
    Fault(
        "drops-some",
        "silently drops every second query, to a client with `max_in_flight=4`",
        peer.drops_every_second,
        ((OK, LATE), (OK, LATE), (EXHAUSTED,)),
        configuration=ClientConfiguration(max_in_flight=4),
    ),
    Fault(
        "silent-for-good",
        "is silent for good, to a client with `max_silent_timeouts=3` and `silence_timeout=0.5`",
        peer.never_answers,
        ((LATE,), (LATE,), (LATE,), (DEAD,)),
        configuration=ClientConfiguration(max_silent_timeouts=3, silence_timeout=0.5),
    ),
    Fault("closes-after-two", "closes after two answers", peer.closes_after_two, ((OK, OK, CLOSED, CLOSED), (CLOSED,))),
    Fault("closes-idle", "closes an idle connection", peer.closes_when_idle, ((OK,), (CLOSED,))),
    Fault(
        "closes-as-asked",
        "closes an idle connection just as the next query is sent",
        peer.closes_as_it_is_asked,
        ((OK,), (CLOSED,), (CLOSED,)),
    ),
    Fault(
        "closes-on-update",
        "closes instead of answering an UPDATE",
        peer.closes_after_none,
        ((UNSAFE,), (CLOSED,)),
        opcode=UPDATE,
    ),
    Fault(
        "keepalive-0",
        "states a keepalive timeout of 0 in the first of three answers",
        peer.keepalive_0,
        ((OK, OK, OK), (GO_AWAY,)),
    ),
    Fault("cut", "closes in mid-message", peer.closes_in_mid_message, ((OK, TRUNCATED), (TRUNCATED,))),
    Fault(
        "cut-third",
        "closes inside the third of three answers, all in one record",
        peer.closes_in_the_third_message,
        ((OK, OK, TRUNCATED), (TRUNCATED,)),
    ),
    Fault(
        "cut-third-no-close-notify",
        "ends TCP without close_notify inside the third of three answers",
        peer.ends_in_the_third_message,
        ((OK, OK, TRUNCATED), (TRUNCATED,)),
    ),
    Fault("no-close-notify", "closes without close_notify", peer.ends_without_close_notify, ((OK, CUT), (CUT,))),
    Fault("resets", "resets TCP after one answer", peer.resets, ((OK, RESET, RESET), (RESET,))),
    Fault("bad-record", "sends a TLS record that cannot be decrypted", peer.breaks_a_record, ((OK, BROKEN), (BROKEN,))),
    Fault("length-0", "sends the length 0", peer.length_0, ((OK, SHORT), (SHORT,))),
    Fault("length-11", "sends a message of 11 octets", peer.length_11, ((OK, SHORT), (SHORT,))),
    Fault("flood", "sends 65 responses in a row that nobody asked for", peer.flood, ((OK, FLOODED), (FLOODED,))),
)

HEAD = """\
# What servers do wrong, and what becomes of it

<!-- Made by `cd tests && python -m conformance.faults`; a test compares. -->

Every row is a test that runs on blocking sockets, asyncio, uvloop and trio, which may not differ in anything that
stands here. In each of them every query meets its fate within its own deadline, closing takes less than a second,
and no task, thread or file descriptor is left.

"; then" stands between queries asked at a time and those asked when the former had their fates. The error is what
`query()` raises, or where there is no connection, `connect()`. "Again": `safe_to_resend`, whether the query may be
asked again elsewhere; where there is no connection, nothing was sent. A time-out ends one query: the connection goes
on, until there are too many of them.

| A server that ... | Queries | Error | Codes | Again | It says |
|---|---|---|---|---|---|
"""

CODE_NAMES = {Cause: "cause", Failure: "failure", Reason: "verdict.reason"}


def page() -> str:
    """docs/faults.md."""
    return HEAD + "".join(map(row, EVERY)) + section()


def row(fault: Fault) -> str:
    """One line of the table."""
    if fault.connects != OK:
        return line(fault.does, "no connection", [fault.connects])
    words = "; then ".join(", ".join(map(word, batch)) for batch in fault.fates)
    unhappy = dict.fromkeys(fate for batch in fault.fates for fate in batch if fate != OK)
    return line(fault.does, words, list(unhappy))


def word(fate: Fate) -> str:
    """What became of one query."""
    return {None: "answered", QueryTimeoutError: "timed out"}.get(fate.error, "lost")


def line(does: str, words: str, fates: Iterable[Fate]) -> str:
    """The cells; what differs between several fates stands in lines of its own."""
    columns = (
        [f"`{fate.error.__name__}`" for fate in fates if fate.error],
        [codes(fate) for fate in fates],
        ["" if fate.is_safe is None else "yes" if fate.is_safe else "no" for fate in fates],
        [fate.says for fate in fates],
    )
    return f"| {' | '.join([does, words, *('<br>'.join(dict.fromkeys(column)) for column in columns)])} |\n"


def codes(fate: Fate) -> str:
    """The stable codes, by the names of their attributes."""
    named = [] if fate.code is None else [f"`{CODE_NAMES[type(fate.code)]}` {fate.code.value}"]
    if fate.fault is not None:
        attribute = "error.fault" if fate.error is ConnectionLostError else "fault"
        named.append(f"`{attribute}` {fate.fault.value}")
    return ", ".join(named)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
