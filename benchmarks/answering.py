"""A server in its own process, which prints its port and answers until it is stopped.

    python answering.py {asyncio,asyncio-shared,blocking,trio,asyncio-tls} CHAIN.pem [OPTIONS]

OPTIONS is a JSON object of what ``serve`` is told beside, or instead of, what is told here.
The handler returns ready octets, so that a client is measured and not a resolver.  ``asyncio-shared`` lets responses
share TLS records.  ``asyncio-tls`` is what one writes without this package: a protocol on the loop's own TLS, with
the engine's framer for the answers' sake.
"""

from __future__ import annotations

import asyncio as _asyncio
import json
import ssl
import sys
from functools import partial
from typing import Any

import trio as _trio

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io.tls import ServerContext
from dot_proto import Deframer, ServerConfiguration, frame

HOST = "127.0.0.1"

ZONE = "bench.test"

NAMES = [f"{number:05}.{ZONE}" for number in range(4000)]
"All of one length, so that every question ends at the same octet."

QUESTION = slice(12, 12 + len(NAMES[0]) + 2 + 4)
"Where the question stands in a query: name, type, class (RFC 1035, section 4.1.2)."

HEADER = b"\x81\x80\0\1\0\1\0\0\0\1"
"QR, RD, RA; one question, one answer, one additional record (RFC 1035, section 4.1.1)."

ANSWER = b"\xc0\x0c\0\1\0\1\0\0\x01\x2c\0\4\xc0\0\2\1" + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
"192.0.2.1 for 300 seconds, and an OPT record, which the engine takes away where the query had none."

MANY = 50_000
"Connections: no limit of ours is reached."

OPTIONS: dict[str, Any] = {
    "port": 0,
    # Seconds: no idle connection is closed while its memory is measured.
    "configuration": ServerConfiguration(idle_timeout=600.0),
    "max_connections": MANY,
    "max_connections_per_host": MANY,
}


def answer(message: bytes, _: object = None) -> bytes:
    """The response to one query."""
    return message[:2] + HEADER + message[QUESTION] + ANSWER


def blocking(context: ServerContext, **options: Any) -> None:
    with dot_io.blocking.serve(answer, context, **OPTIONS | options) as server:
        print(server.port, flush=True)
        server.serve_forever()


async def asyncio(context: ServerContext, **options: Any) -> None:
    async with dot_io.asyncio.serve(answer, context, **OPTIONS | options) as server:
        print(server.port, flush=True)
        await server.serve_forever()


async def trio(context: ServerContext, **options: Any) -> None:
    async with dot_io.trio.serve(answer, context, **OPTIONS | options) as server:
        print(server.port, flush=True)
        await server.serve_forever()


class Native(_asyncio.Protocol):
    """The least that answers over the loop's own TLS."""

    def __init__(self) -> None:
        self.deframer = Deframer()

    def connection_made(self, transport: _asyncio.BaseTransport) -> None:
        assert isinstance(transport, _asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"".join([frame(answer(message)) for message in self.deframer.feed(data)]))


async def native(chain: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = await _asyncio.get_running_loop().create_server(Native, HOST, 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    kind, chain, *more = sys.argv[1:]
    options = json.loads(more[0]) if more else {}
    if kind == "blocking":
        blocking(ServerContext(chain), **options)
    elif kind in ("asyncio", "asyncio-shared"):
        _asyncio.run(asyncio(ServerContext(chain), share_records=kind == "asyncio-shared", **options))
    elif kind == "trio":
        _trio.run(partial(trio, ServerContext(chain), **options))
    elif kind == "asyncio-tls":
        _asyncio.run(native(chain))
    else:
        sys.exit(f"no server of the kind {kind}")


if __name__ == "__main__":
    main()
