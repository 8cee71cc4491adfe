"""What a server can do wrong, on blocking sockets: each function is one server's whole conduct with one client.

Those of the first part speak through TLS, those of the second get bare TCP.  Queries that a client asks at the same
time come in any order; here they are sorted by name.
"""

from __future__ import annotations

import select
import socket
import ssl
from itertools import cycle

from dot_proto import MAX_MESSAGE, ClientConfiguration, make_query
from support.forging import CLOSE_NOTIFY, FATAL, INTERNAL_ERROR, USER_CANCELED, WARNING, ForgingCaller
from support.messages import KEEPALIVE, QR, message, opt, option, question_of, record, response_to, stream_of
from support.peers import GIVE_UP, Caller, Script, answer, name_in
from support.records import ALERT, offers_session

UNSOLICITED = answer(make_query("nobody.asked.example", message_id=0x5A5A))

ALLOWED = ClientConfiguration().max_unsolicited
"Messages in a row that may belong to nothing."


def asked(caller: Caller, count: int) -> list[bytes]:
    """So many queries, by name."""
    return sorted(caller.queries(count), key=name_in)


def serve(caller: Caller) -> None:
    """Behave, until the client ends."""
    while True:
        caller.send(answer(caller.query()))


def end(caller: Caller) -> None:
    """FIN, and then nothing but to wait for the client's own."""
    caller.socket.settimeout(GIVE_UP)
    caller.socket.shutdown(socket.SHUT_WR)
    caller.rest()


def close(caller: Caller) -> None:
    """close_notify and FIN."""
    caller.send_close_notify()
    end(caller)


# Inside TLS.


def hears_nothing(caller: Caller) -> None:
    assert caller.rest() == b"", "a client that has refused this server has sent it something"


def closes_after_two(caller: Caller) -> None:
    caller.send(*map(answer, asked(caller, 4)[:2]))
    close(caller)


def closes_after_none(caller: Caller) -> None:
    caller.query()
    close(caller)


def closes_when_idle(caller: Caller) -> None:
    caller.send(answer(caller.query()))
    close(caller)


def closes_as_it_is_asked(caller: Caller) -> None:
    caller.send(answer(caller.query()))
    select.select([caller.socket], [], [], GIVE_UP)  # the next query is here, and stays unread
    caller.send_close_notify()


def closes_in_mid_message(caller: Caller) -> None:
    first, second = asked(caller, 2)
    caller.socket.sendall(stream_of([answer(first), answer(second)])[:-1])
    close(caller)


def closes_in_the_third_message(caller: Caller) -> None:
    caller.socket.sendall(stream_of(map(answer, asked(caller, 3)))[:-1])
    close(caller)


def ends_in_the_third_message(caller: Caller) -> None:
    caller.socket.sendall(stream_of(map(answer, asked(caller, 3)))[:-1])
    end(caller)


def ends_without_close_notify(caller: Caller) -> None:
    first, _ = asked(caller, 2)
    caller.send(answer(first))
    end(caller)


def resets(caller: Caller) -> None:
    first, *_ = asked(caller, 3)
    caller.send(answer(first))
    caller.reset()


def never_answers_close_notify(caller: Caller) -> None:
    caller.send(answer(caller.query()))
    caller.rest()
    with socket.socket(fileno=caller.socket.detach()) as bare:
        bare.settimeout(GIVE_UP)
        assert bare.recv(1) == b"", "after close_notify the client must close TCP"


def breaks_a_record(caller: Caller) -> None:
    first, _ = asked(caller, 2)
    caller.send(answer(first))
    socket.socket.send(caller.socket, b"\x17\x03\x03\x00\x40" + bytes(64))
    caller.rest()


def one_octet_a_record(caller: Caller) -> None:
    for octet in stream_of(map(answer, asked(caller, 2))):
        caller.socket.sendall(bytes([octet]))
    serve(caller)


def answers_backwards(caller: Caller) -> None:
    caller.send(*map(answer, reversed(asked(caller, 4))))
    serve(caller)


def answers_late(caller: Caller) -> None:
    caller.send(*map(answer, caller.queries(2)))
    serve(caller)


def leaves_out_the_question(caller: Caller) -> None:
    """NXDOMAIN and NOERROR in turn; a record has the name, so that the test can tell which answer it got."""
    for rcode in cycle((3, 0)):
        query = caller.query()
        owned = record(question_of(query)[:-4])
        sections: dict[str, list[bytes]] = {"authorities" if rcode else "answers": [owned]}
        caller.send(message(id=int.from_bytes(query[:2]), flags=QR | rcode, **sections))


def answers_at_length(caller: Caller) -> None:
    query = caller.query()
    bare = response_to(query, record(kind=10))
    caller.send(response_to(query, record(kind=10, data=bytes(MAX_MESSAGE - len(bare) + 4))))
    serve(caller)


def answers_twice(caller: Caller) -> None:
    first, second = map(answer, asked(caller, 2))
    caller.send(first, first, second, second)
    serve(caller)


def never_answers(caller: Caller) -> None:
    caller.rest()


def drops_every_second(caller: Caller) -> None:
    while True:
        caller.send(answer(asked(caller, 2)[0]))


def wrong_id(caller: Caller) -> None:
    first, second = asked(caller, 2)
    taken = {first[:2], second[:2]}
    free = next(number for number in range(3) if number.to_bytes(2) not in taken)
    caller.send(response_to(first, record(), id=free), answer(second))
    serve(caller)


def wrong_question(caller: Caller) -> None:
    first, second = asked(caller, 2)
    caller.send(first[:2] + UNSOLICITED[2:], answer(second))
    serve(caller)


def echoes(caller: Caller) -> None:
    first, second = asked(caller, 2)
    caller.send(first, answer(second))
    serve(caller)


def one_unsolicited_response(caller: Caller) -> None:
    caller.send(UNSOLICITED, answer(caller.query()))
    serve(caller)


def as_many_unsolicited_as_allowed(caller: Caller) -> None:
    caller.send(*[UNSOLICITED] * ALLOWED, answer(caller.query()))
    serve(caller)


def flood(caller: Caller) -> None:
    first, second = map(answer, asked(caller, 2))
    caller.send(first, *[UNSOLICITED] * (ALLOWED + 1), second)
    caller.rest()


def length_0(caller: Caller) -> None:
    first, second = map(answer, asked(caller, 2))
    caller.socket.sendall(stream_of([first, b"", second]))
    caller.rest()


def length_11(caller: Caller) -> None:
    first, second = map(answer, asked(caller, 2))
    caller.socket.sendall(stream_of([first, UNSOLICITED[:11], second]))
    caller.rest()


def keepalive_0(caller: Caller) -> None:
    first, second, third = asked(caller, 3)
    caller.send(response_to(first, record(), additionals=[opt(option(KEEPALIVE, bytes(2)))]), answer(second))
    caller.send(answer(third))
    caller.rest()


# Inside TLS, with records made by hand: the first of two queries is answered, and then.


def first_of_two(caller: Caller) -> tuple[ForgingCaller, bytes]:
    """Answers the first query; returns the answer to the second, which no client may take."""
    assert isinstance(caller, ForgingCaller)
    first, second = map(answer, asked(caller, 2))
    caller.send(first)
    return caller, second


def fatal_alert_then_data(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    alert = peer.alert(FATAL, INTERNAL_ERROR)
    peer.send_octets(alert, peer.data(second))
    end(peer)


def alert_of_three_octets(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    alert = peer.record(ALERT, bytes([FATAL, INTERNAL_ERROR, 0]))
    peer.send_octets(alert, peer.data(second))
    peer.rest()


def alert_in_two_records(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.record(ALERT, bytes([FATAL])), peer.record(ALERT, bytes([INTERNAL_ERROR])))
    peer.rest()


def two_alerts_in_one_record(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    alerts = peer.record(ALERT, bytes([WARNING, USER_CANCELED, WARNING, CLOSE_NOTIFY]))
    peer.send_octets(alerts, peer.data(second))
    peer.rest()


def a_long_alert(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.record(ALERT, bytes([FATAL, INTERNAL_ERROR]) * 8000))
    peer.rest()


def an_empty_alert(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.record(ALERT, b""))
    peer.rest()


def a_few_warnings(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    warnings = [peer.alert(WARNING, USER_CANCELED) for _ in range(4)]
    peer.send_octets(*warnings, peer.data(second))
    serve(peer)


def a_flood_of_warnings(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    warnings = [peer.alert(WARNING, USER_CANCELED) for _ in range(1000)]
    peer.send_octets(*warnings, peer.data(second))
    peer.rest()


def close_notify_twice(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.alert(WARNING, CLOSE_NOTIFY), peer.alert(WARNING, CLOSE_NOTIFY))
    end(peer)


def data_after_close_notify(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    peer.send_octets(peer.alert(WARNING, CLOSE_NOTIFY), peer.data(second))
    end(peer)


def garbage_after_close_notify(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.alert(WARNING, CLOSE_NOTIFY), b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
    end(peer)


def ends_in_mid_record(caller: Caller) -> None:
    peer, second = first_of_two(caller)
    peer.send_octets(peer.data(second)[:-1])
    end(peer)


def ends_in_mid_header(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(b"\x17\x03")
    end(peer)


def resets_after_close_notify(caller: Caller) -> None:
    peer, _ = first_of_two(caller)
    peer.send_octets(peer.alert(WARNING, CLOSE_NOTIFY))
    peer.reset()


# On bare TCP.


def closes_tcp(caller: Caller) -> None:
    end(caller)


def resets_tcp(caller: Caller) -> None:
    caller.socket.recv(1)
    caller.reset()


def plain_dns(caller: Caller) -> None:
    caller.socket.sendall(stream_of([UNSOLICITED]))
    caller.rest()


def http(caller: Caller) -> None:
    caller.socket.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    end(caller)


def plain_alerts(*records: bytes) -> Script:
    """Alert records in the clear, instead of a ServerHello, and then silence."""

    def conduct(caller: Caller) -> None:
        caller.socket.recv(1)
        caller.socket.sendall(b"".join(b"\x15\x03\x03" + len(data).to_bytes(2) + data for data in records))
        caller.rest()

    return conduct


def tls_1_1(caller: Caller) -> None:
    """A ServerHello of a server that knows no extensions (RFC 4346, section 7.4.1.3)."""
    hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\xc0\x13" + b"\x00"
    handshake = b"\x02" + len(hello).to_bytes(3) + hello
    caller.socket.sendall(b"\x16\x03\x02" + len(handshake).to_bytes(2) + handshake)
    caller.rest()


def ends_handshakes_with_a_session(caller: Caller, context: ssl.SSLContext) -> None:
    """Close when an earlier session is offered (the extension pre_shared_key, RFC 8446, section 4.2.11); else serve."""
    hello = caller.socket.recv(65_536, socket.MSG_PEEK)
    if offers_session(hello):  # it is the last extension, with a ticket
        return
    with context.wrap_socket(caller.socket, server_side=True) as sock:
        serve(Caller(sock))


def stalls_after_server_hello(caller: Caller, context: ssl.SSLContext) -> None:
    """The first record of the server's flight, and no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    while not outgoing.pending:
        incoming.write(caller.socket.recv(65_536))
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            continue
    flight = outgoing.read()
    assert flight[5] == 2, "a flight begins with ServerHello"
    caller.socket.sendall(flight[: 5 + int.from_bytes(flight[3:5])])
    caller.rest()
