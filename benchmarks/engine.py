"""The engine's hot paths against a plain loop that only splits the same octets.

Each row does what a connection does: the client in its default configuration (padding to 128 octets, keepalive)
with 256 queries outstanding, the server with padding to 468.

What pays, as shares of the whole path (Python 3.11):

* Receiving: event classes as plain slotted dataclasses; frozen ones cost 1.4 times as much.  A search for the one octet
  0x0b before the search for keepalive's two octets saves a fifth: ``in`` is slow where the first octet, 0, abounds.
* Sending: no walk over the records of a query that has one question and a bare OPT or none, and keepalive and
  padding as ready octets by the message's length.  Together three fifths; the ready octets alone three tenths.
* Serving: the same for queries and responses, three fifths too; options scanned in place, not collected, a tenth.

What was tried and did not pay enough (a tenth of the path) for what it does to the code:

* One regular expression for the whole of a plain query: level with the loop over its labels.
* A tuple in place of the server's ``_Query``: 5 %.  ``send_response`` with its helpers written out in place: 3 %.
* The compared bits of a client's query from a table: 3 %.  Drawing the id in place: 2 %.
* What a query's OPT says, cached by its octets: 3 % at the most, for a cache that any client could fill.
* The end of a response compared with the last keepalive seen: a record's data could look like one.
"""

from __future__ import annotations

import random
import struct
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate
from framing import cut, split
from measure import IS_COMPILED, Case, Target, arguments, machine, report, run, verdicts

import dot_proto.client
from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    ClientConnection,
    Evidence,
    Pin,
    QueryReceived,
    ServerConnection,
    frame,
    make_query,
)

PENDING = 256
"Queries outstanding on one connection, except where growth is measured."

PINS = 100
"Pins in one piece of work."

OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
"A bare OPT record (RFC 6891, section 6.1.2), as make_query() ends a query."

KEEPALIVE = b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0b\0\x02\x02\x58"
"OPT with an idle timeout of 60 seconds (RFC 7828, section 3.1)."

RECORD = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x01"
"An A record for the name in the question: 192.0.2.1, 300 seconds."

ANSWER = 60
"Octets of an answer to a question about a short name."

LEAF = Path(__file__).parent.parent / "tests" / "vectors" / "certs" / "leaf-p256.pem"

_ids = list(range(65_536))
random.Random(7858).shuffle(_ids)
IDS = cut(struct.pack("!65536H", *_ids), 512)
"Every message id once, in a random order that is the same in each run, in the portions that the engine asks for."

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class FrozenResponse:
    """Rejected: what ResponseReceived would be as a frozen dataclass."""

    query: int
    message: bytes
    elapsed: float
    more: bool


def queries(count: int, answer_end: bytes) -> list[bytes]:
    """Queries with a bare OPT for names of such a length that their answers have 60 octets."""
    labels = ANSWER - len(answer_end) - len(RECORD) - 12 - 4 - 2 - len("12345.")
    return [make_query(f"{number:05}.{'x' * labels}") for number in range(count)]


def without_opt(query: bytes) -> bytes:
    return query[:10] + b"\0\0" + query[12 : -len(OPT)]


def answer(query: bytes, opt: bytes) -> bytes:
    """The answer of one A record."""
    end = query.index(b"\0", 12) + 5
    return query[:2] + b"\x81\x80\0\1\0\1\0\0" + bytes([0, bool(opt)]) + query[12:end] + RECORD + opt


def client(configuration: ClientConfiguration | None) -> ClientConnection:
    portions = iter(IDS)
    connection = ClientConnection(
        AuthenticationPolicy.opportunistic(), configuration, entropy=lambda size: next(portions)
    )
    connection.verify_peer(Evidence(), now=0.0)
    return connection


def ask(connection: ClientConnection, asked: list[bytes]) -> list[bytes]:
    send = connection.send_query
    for query in asked:
        send(query, now=1.0)
    return connection.data_to_send()


def sending(name: str, asked: list[bytes], configuration: ClientConfiguration | None = None) -> Case:
    """send_query for each, then data_to_send once."""

    def prepare() -> Work:
        connection = client(configuration)
        return lambda: ask(connection, asked)

    return Case(name, prepare, len(asked))


def receiving(
    name: str,
    asked: list[bytes],
    opt: bytes = b"",
    configuration: ClientConfiguration | None = None,
    response: type = dot_proto.client.ResponseReceived,
) -> Case:
    """receive_data of all answers in one read; ``response`` is the event's class."""

    def prepare() -> Work:
        connection = client(configuration)
        sent = ask(connection, asked)
        read = b"".join([frame(answer(message[2:], opt)) for message in sent])

        def work() -> None:
            usual = dot_proto.client.ResponseReceived
            vars(dot_proto.client)["ResponseReceived"] = response
            connection.receive_data(read, now=2.0)
            vars(dot_proto.client)["ResponseReceived"] = usual

        return work

    return Case(name, prepare, len(asked))


def discarding(name: str, asked: list[bytes]) -> Case:
    """receive_data of answers each followed by a copy of itself, which answers nothing any more."""

    def prepare() -> Work:
        connection = client(None)
        read = b"".join([frame(answer(message[2:], b"")) * 2 for message in ask(connection, asked)])
        return lambda: connection.receive_data(read, now=2.0)

    return Case(name, prepare, 2 * len(asked))


def serving(name: str, asked: list[bytes], opt: bytes) -> Case:
    """receive_data of all queries in one read, send_response for each, then data_to_send once."""
    read = b"".join(map(frame, asked))
    answers = [answer(query, opt) for query in asked]

    def prepare() -> Work:
        connection = ServerConnection(now=0.0)

        def work() -> None:
            send = connection.send_response
            for asks, response in zip(connection.receive_data(read, now=1.0), answers, strict=True):
                assert type(asks) is QueryReceived
                send(asks.query, response, now=1.0)
            connection.data_to_send()

        return work

    return Case(name, prepare, len(asked))


def pinning() -> list[Case]:
    """The pin of a leaf certificate, ours and with the cryptography package."""
    der = b64decode(b"".join(LEAF.read_bytes().splitlines()[1:-1]))

    def ours() -> None:
        for _ in range(PINS):
            Pin.of_certificate(der)

    def theirs() -> None:
        for _ in range(PINS):
            key = load_der_x509_certificate(der).public_key()
            sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    return [Case("Pin.of_certificate", lambda: ours, PINS), Case("cryptography", lambda: theirs, PINS)]


def paths(crowd: int) -> list[Case]:
    """Every hot path behind the bare loop; ``crowd`` is how many answers come in the longest read."""
    plain, with_opt = queries(PENDING, b""), queries(PENDING, OPT)
    padded = [message[2:] for message in ask(client(None), with_opt)]
    bare = ClientConfiguration(padding_block=None, keepalive=False)
    read = b"".join([frame(answer(query, b"")) for query in plain])
    # Both kinds of answers have the length that the base splits.
    assert len(read) == (ANSWER + 2) * PENDING == sum(len(frame(answer(query, OPT))) for query in with_opt)
    many = ClientConfiguration(max_in_flight=65_536)
    cases = [
        Case("bare loop", lambda: lambda: split(read), PENDING),
        receiving("client receives, no OPT", plain),
        receiving("client receives, OPT", with_opt, OPT),
        receiving("client receives, OPT with keepalive", with_opt, KEEPALIVE),
        discarding("client receives, every second discarded", plain),
        receiving("client receives, 16 in one read", plain[:16]),
        receiving(f"client receives, {crowd} in one read", queries(crowd, b""), configuration=many),
        sending("client sends, OPT", with_opt),
        sending("client sends, no OPT", list(map(without_opt, with_opt))),
        sending("client sends, nothing added", with_opt, bare),
        serving("server, padded query with keepalive", padded, OPT),
        serving("server, OPT", with_opt, OPT),
        serving("server, no OPT", list(map(without_opt, with_opt)), b""),
    ]
    if not IS_COMPILED:  # compiled code has made up its mind which class it makes
        cases.append(receiving("client receives, frozen event", plain, response=FrozenResponse))
    return cases


def main() -> None:
    chosen = arguments(__doc__)
    machine()
    crowd = 4096 if chosen.quick else 65_536
    engine = run(paths(crowd), rounds=chosen.rounds, quick=chosen.quick)
    pins = run(pinning(), rounds=chosen.rounds, quick=chosen.quick)
    report("60-octet answers; for the server, receive_data and send_response together", engine, base="bare loop")
    report("Pin of a leaf certificate", pins, base="cryptography", unit="pin")
    verdicts(
        [
            Target("client receives, no OPT", "client receives, no OPT", "bare loop", 7.0),
            Target("client receives, OPT", "client receives, OPT", "bare loop", 7.0),
            Target(
                "client receives, 65536 in one read over 16",
                f"client receives, {crowd} in one read",
                "client receives, 16 in one read",
                1.3,
            ),
            # Aims: 1.5 and 2.5 microseconds where the bare loop takes 0.17.
            Target("aim: client sends, OPT", "client sends, OPT", "bare loop", 1.5 / 0.17),
            Target("aim: server, padded query", "server, padded query with keepalive", "bare loop", 2.5 / 0.17),
            Target("aim: server, no OPT", "server, no OPT", "bare loop", 2.5 / 0.17),
            Target("pin over cryptography's", "Pin.of_certificate", "cryptography", 0.5),
        ],
        engine | pins,
    )


if __name__ == "__main__":
    main()
