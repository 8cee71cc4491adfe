"""A server to run for years: a process for each core, renewed certificates on SIGHUP, an orderly end on SIGTERM.

    python server.py chain.pem key.pem --port 853

The first process answers nobody: it starts the others, hands signals on to them, and ends with them.  All of them
listen on the same addresses (SO_REUSEPORT), or on the sockets that systemd has bound (sd_listen_fds(3)).  What is
answered is a small zone; put your own handler in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.zone

from dot_io.asyncio import Peer, serve
from dot_io.tls import ServerContext
from dot_proto import DoTError

ORIGIN = dns.name.from_text("home.example")

ZONE = dns.zone.from_text(
    """
$TTL 300
@     SOA ns hostmaster 1 3600 600 86400 300
@     NS ns
ns    A 192.0.2.53
www   A 192.0.2.80
www   AAAA 2001:db8::80
""",
    origin=ORIGIN,
    relativize=False,
)

SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("server")


def handler(query: bytes, peer: Peer) -> bytes:
    """The response to one query: what the zone holds, and REFUSED for all that is not in it (RFC 1035, 4.1.1)."""
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message)
    if message.opcode() != dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
    elif not message.question or not message.question[0].name.is_subdomain(ORIGIN):
        response.set_rcode(dns.rcode.REFUSED)
    else:
        question = message.question[0]
        response.flags |= dns.flags.AA
        if ZONE.get_node(question.name) is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        found = ZONE.get_rrset(question.name, question.rdtype)
        if found is not None:
            response.answer.append(found)
        else:  # RFC 2308, section 2: how long there is nothing
            response.authority.append(ZONE.find_rrset(ORIGIN, "SOA"))
    return response.to_wire()


def reload(context: ServerContext) -> None:
    """Take the renewed certificate for new connections; open ones go on, and a bad pair changes nothing."""
    try:
        context.reload()
    except (DoTError, OSError) as error:
        log.error("the certificate stays as it was: %s", error)
    else:
        log.info("the certificate has been read anew")


def start_reload(context: ServerContext) -> None:
    """In a thread that nobody waits for: a file may be on a disk that does not answer."""
    threading.Thread(target=reload, args=(context,), daemon=True).start()


async def answer(given: argparse.Namespace, sockets: Sequence[socket.socket], lifeline: int) -> None:
    """One process: until SIGTERM, or the first process is no more; then what was asked is answered still."""
    context = ServerContext(given.certificate, given.key)
    where: dict[str, Any] = {"host": given.host, "port": given.port, "reuse_port": True}
    if sockets:
        where = {"sock": sockets}
    async with serve(handler, context, proxy_from=given.proxy_from, **where) as server:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def first_has_ended() -> None:
            loop.remove_reader(lifeline)
            ended.set()

        loop.add_reader(lifeline, first_has_ended)
        loop.add_signal_handler(signal.SIGHUP, start_reload, context)
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        loop.add_signal_handler(signal.SIGINT, ended.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        log.info("listening on %s", ", ".join(f"{host} port {port}" for host, port in server.addresses))
        await ended.wait()


def start(given: argparse.Namespace, sockets: Sequence[socket.socket], pipe: tuple[int, int]) -> int:
    """Start a process that answers; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    lifeline, held = pipe
    os.close(held)  # the first process alone holds it: the other end tells when that one has ended, be it by SIGKILL
    try:
        asyncio.run(answer(given, sockets, lifeline))
    except (DoTError, OSError) as error:
        sys.exit(str(error))
    sys.exit(0)


def supervise(pids: set[int]) -> int:
    """Hand signals on until all have ended; where one has failed, end the others.  Returns the exit status."""
    status = 0
    while pids:
        number = signal.sigwait({*SIGNALS, signal.SIGCHLD})
        if number == signal.SIGCHLD:
            ended = dict(os.waitpid(pid, os.WNOHANG) for pid in pids)
            ended.pop(0, None)  # of all those that go on
            pids -= ended.keys()
            if not any(ended.values()):
                continue
            status, number = 1, signal.SIGTERM
        for pid in pids:
            os.kill(pid, number)
    return status


def inherited() -> list[socket.socket]:
    """The listening sockets that systemd has bound, from descriptor 3 on, if this process is the one they are for."""
    count = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    return [socket.socket(fileno=3 + number) for number in range(count)]


def main() -> int:
    """Read the command line, start the processes, and end with them; the exit status is 1 if one has failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("certificate", help="the chain in PEM, the server's own certificate first")
    parser.add_argument("key", nargs="?", help="its private key in PEM, if it is not in the same file")
    parser.add_argument("--host", action="append", help="an address to listen on; default: all of both families")
    parser.add_argument("--port", type=int, default=853, help="default 853 (RFC 7858, section 3.1)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one for each core")
    parser.add_argument("--proxy-from", action="append", default=[], help="a network whose load balancers are believed")
    given = parser.parse_args()
    if given.processes < 1:
        parser.error(f"--processes is {given.processes}; it must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(process)d %(name)s: %(message)s")
    # Blocked, a signal waits until whoever it is for can take it: this process in sigwait(), another on its loop.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGCHLD})
    sockets, pipe = inherited(), os.pipe()
    return supervise({start(given, sockets, pipe) for _ in range(given.processes)})


if __name__ == "__main__":
    sys.exit(main())
