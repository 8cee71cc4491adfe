"""The reader of messages, and what is spliced into them: the octets are one message."""

from __future__ import annotations

import dns.exception
import dns.message
import pytest

from dot_proto import (
    ClientConfiguration,
    ClientConnection,
    LocalProtocolError,
    MessageError,
    QueryReceived,
    QueryRejected,
    ResponseReceived,
    ServerConnection,
    frame,
)
from dot_proto import _edns as edns
from dot_proto import _message as dns_message
from dot_proto import _plain as plain
from dot_proto.testing.messages import KEEPALIVE, PADDING, unframed
from support.scenes import STRICT, TRUSTED, always

OURS_ALONE = ("questions in one message", "second Padding option", "TSIG is not the last", "OPT")
"What dnspython lets pass."

ROOM = 2000
"Octets that leave room for all that is spliced in."


def target(data: bytes) -> None:
    """The laws for one message, as a query and as a response (MAT-19, SRV-6, PAD, KAL)."""
    message = data[:65_535].ljust(12, b"\0")
    layout = dns_message.walk(message)
    agrees_with_the_short_way(message, layout)
    if layout.problem is None:
        splicing_keeps_the_rest(message, layout)
    agrees_with_dnspython(message, layout)
    travels(message, layout)


def agrees_with_the_short_way(message: bytes, layout: dns_message.Layout) -> None:
    """Of what it calls plain, ``_plain`` says what ``walk`` says; the options are not its affair."""
    found = plain.options(message)
    is_fine = layout.problem is None or "option" in layout.problem
    for start in filter(None, (plain.plain_question_end(message), plain.opt_offset(message))):
        assert is_fine, layout.problem
        assert layout.opt == (None if start == len(message) else (start, len(message)))
        assert not layout.is_signed
    if end := plain.plain_question_end(message):
        assert layout.question_end == end
    if found is not None:
        assert list(found.items()) == layout.options


def splicing_keeps_the_rest(message: bytes, layout: dns_message.Layout) -> None:
    """Options that were there stay, in order; the message stays walkable; doing it again changes nothing."""
    is_fixed = layout.is_signed
    try:
        bare = edns.without_opt(message, layout)
    except MessageError:  # names behind OPT that nobody can read
        assert layout.opt is not None
        assert layout.opt[1] < len(message)
        return
    for keepalive, block in ((None, 128), (b"", 128), (b"\0\x64", 468), (b"", None), (None, None)):
        added = edns.additions(() if keepalive is None else ((KEEPALIVE, keepalive),), block)
        spliced = edns.splice(message, layout, added)
        again = dns_message.walk(spliced)
        assert again.problem is None, again.problem
        assert edns.splice(spliced, again, added) == spliced
        for start in filter(None, (plain.plain_question_end(message), plain.opt_offset(message))):
            assert edns.splice_plain(message, start, added) in (None, spliced[2:])
        if is_fixed:
            assert spliced == message
        elif len(message) < ROOM:
            ours = {PADDING} if block else set()
            ours |= {KEEPALIVE} if keepalive is not None else set()
            assert [each for each in again.options if each[0] not in ours] == [
                each for each in layout.options if each[0] not in ours
            ]
            assert keepalive is None or again.option(KEEPALIVE) == keepalive
            assert block is None or (len(spliced) % block == 0 and again.options[-1][0] == PADDING)
            assert spliced[:10] == message[:10]
            start = len(message) if layout.opt is None else layout.opt[0]
            assert spliced[12:start] == message[12:start]
    if is_fixed:
        assert bare == message
    else:
        again = dns_message.walk(bare)
        assert again.problem is None
        assert again.opt is None
        assert dns_message.rcode(bare) in (dns_message.rcode(message), dns_message.SERVFAIL)


def agrees_with_dnspython(message: bytes, layout: dns_message.Layout) -> None:
    """What dnspython can read can be walked, but for rules that it does not know."""
    if layout.problem is None or any(each in layout.problem for each in OURS_ALONE):
        return
    try:
        dns.message.from_wire(message, keyring=False, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError):
        return
    raise AssertionError(f"dnspython reads what is malformed to us: {layout.problem}")


def travels(message: bytes, layout: dns_message.Layout) -> None:
    """A client takes every query that can be walked, and a response like it; a server has one word on each message."""
    is_query = not message[2] & 0x80
    server = ServerConnection(now=0.0)
    events = server.receive_data(frame(message), now=0.0)
    assert len(events) == 1
    match events[0]:
        case QueryReceived():
            assert is_query
            assert layout.problem is None
            if is_movable(message, layout):
                assert server.send_response(events[0].query, with_qr(message), now=0.0)
                [response] = unframed(server.data_to_send())
                assert response[:2] == message[:2]
                assert dns_message.malformation(response) is None or layout.is_signed
        case QueryRejected():
            [response] = unframed(server.data_to_send())
            assert dns_message.malformation(response) is None
            assert response[:2] == message[:2]
            assert response[2] == 0x80 | message[2] & 0x79
        case _:
            assert not is_query
            assert server.data_to_send() == []

    client = ClientConnection(STRICT, ClientConfiguration(idle_timeout=1e9), entropy=always(0x1234))
    client.verify_peer(TRUSTED, now=0.0)
    is_odd = dns_message.malformation(message) is not None
    if not is_query or is_odd or not is_movable(message, layout):
        with pytest.raises(LocalProtocolError):
            client.send_query(message, now=0.0)
        return
    client.send_query(message, now=0.0)
    [query] = unframed(client.data_to_send())
    event, *_ = client.receive_data(frame(with_qr(query)), now=0.0)
    assert isinstance(event, ResponseReceived), event
    assert event.message == message[:2] + with_qr(query)[2:]
    assert dns_message.walk(event.message).problem is None


def is_movable(message: bytes, layout: dns_message.Layout) -> bool:
    """Whether OPT can go last, or away."""
    try:
        edns.without_opt(message, layout)
    except MessageError:
        return False
    return True


def with_qr(message: bytes) -> bytes:
    return message[:2] + bytes([message[2] | 0x80]) + message[3:]
