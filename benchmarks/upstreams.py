"""Servers for survival.py: unbound as a process that is killed, stopped and started again, and scripted ones.

Each keeps what it was asked, by name.  Unbound writes it to its log, which outlives the process.
"""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from answering import ANSWER, HEADER, HOST, ZONE
from loopback import START, stop, unbound_path

SLOW_ZONE = "slow.test"
"Names in it take their time."

SLOW = 2.0
"Seconds that a name of it takes."

PATIENCE = 10.0
"Seconds that a scripted server waits for a client that says nothing."

DISCARD = 1900
"""Milliseconds after which unbound answers no more, and closes the connection instead: its own default, against those
who have answers pile up (unbound.conf(5), discard-timeout)."""

CONFIGURATION = """server:
  interface: {host}@{port}
  interface: {plain}
  tls-port: {port}
  tls-service-key: {chain}
  tls-service-pem: {chain}
  so-reuseport: no
  num-threads: 1
  incoming-num-tcp: 100
  username: ""
  chroot: ""
  directory: {home}
  pidfile: ""
  do-daemonize: no
  use-syslog: no
  logfile: {log}
  log-queries: yes
  module-config: iterator
  discard-timeout: {discard}
  do-not-query-localhost: no
  local-zone: test. nodefault
  local-zone: {zone}. redirect
  local-data: "{zone}. 300 A 192.0.2.1"
remote-control:
  control-enable: no
forward-zone:
  name: {slow_zone}.
  forward-addr: {host}@{slow_port}
"""
"""Without ``so-reuseport: no`` two of them would share a port without a word, and half of the connections would meet
the other one's certificate."""


class Upstream(Protocol):
    """A server that counts."""

    port: int
    name: str
    "The name that a client is to authenticate."

    def asked(self) -> Counter[str]:
        """How many times each name was asked for; probes ask for the root."""
        ...


class Unbound:
    """A process of unbound's, which has the same port each time that it is started."""

    def __init__(
        self,
        home: Path,
        chain: Path,
        slow_port: int,
        stack: ExitStack,
        *,
        discard: int = DISCARD,
        plain: str | None = None,
    ) -> None:
        """``discard`` is in milliseconds, ``plain`` an ``ADDRESS@PORT`` where it answers without TLS."""
        self.port, self.name = 0, HOST
        self._log, self._file, self._words = home / "log", home / "conf", home / "words"
        self._settings = {
            "host": HOST,
            "chain": chain,
            "home": home,
            "log": self._log,
            "zone": ZONE,
            "slow_zone": SLOW_ZONE,
            "slow_port": slow_port,
            "discard": discard,
        }
        self._plain = plain
        home.mkdir()
        self._configure()
        self._process: subprocess.Popen[bytes] | None = None
        stack.callback(self._end)

    def _configure(self) -> None:
        self.port = unused_port()
        plain = self._plain or f"{HOST}@{unused_port()}"
        self._file.write_text(CONFIGURATION.format(port=self.port, plain=plain, **self._settings))

    def start(self) -> None:
        if not unbound_path():
            sys.exit("unbound is needed, and neither on the PATH nor in /usr/sbin")
        with self._words.open("w") as words:
            self._process = subprocess.Popen([unbound_path(), "-d", "-c", self._file], stderr=words)

    def start_and_wait(self) -> None:
        for _ in range(3):
            self.start()
            if self._is_there():
                return
            if self._log.exists():
                break
            self._configure()  # somebody else may have taken a port since we found it unused
        log = self._log.read_text() if self._log.exists() else ""
        sys.exit(f"unbound does not start:\n{self._words.read_text()}{log}")

    def _is_there(self) -> bool:
        assert self._process is not None, "it was started"
        deadline = time.monotonic() + START
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((HOST, self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was started"
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait()

    def asked(self) -> Counter[str]:
        said = self._log.read_text() if self._log.exists() else ""
        return Counter(re.findall(rf"info: {re.escape(HOST)} (\S*)\. \S+ IN$", said, re.MULTILINE))

    def _end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            stop(self._process)


class SlowNames:
    """An authoritative server over UDP, behind unbound: each name is answered so long after it was first asked for.

    Unbound asks again meanwhile, under other ids.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._sock.bind((HOST, 0))
        self.port: int = self._sock.getsockname()[1]
        self._due: dict[str, float] = {}
        threading.Thread(target=self._work, daemon=True).start()
        stack.callback(self._sock.sendto, b"", (HOST, self.port))  # that is the end

    def _work(self) -> None:
        while True:
            query, client = self._sock.recvfrom(4096)
            if not query:
                return
            now = time.monotonic()
            due = self._due.setdefault(_name_in(query), now + SLOW)
            timer = threading.Timer(max(0.0, due - now), self._answer, (query, client))
            timer.daemon = True
            timer.start()

    def _answer(self, query: bytes, client: tuple[str, int]) -> None:
        with suppress(OSError):  # over meanwhile
            self._sock.sendto(answer(query), client)


Conduct = Callable[[int], str]
"What is done with a connection's query, by its number, from 1: ``answer``, ``drop``, or ``close``, which is no answer."


def answers(_: int) -> str:
    return "answer"


class Scripted:
    """A server of our own on blocking sockets and the standard library's TLS: no code of the package's is in it."""

    def __init__(self, chain: Path, stack: ExitStack, conduct: Conduct = answers) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain)
        self._conduct = conduct
        self._asked: Counter[str] = Counter()
        self._forgotten = 0
        self.name = HOST
        self.dialled_at: list[float] = []
        "When each connection was accepted, in seconds."
        self.octets = 0
        "Received inside TLS, from all clients together."
        self.resumed = 0
        "Connections on which a client has resumed a session."
        listener = stack.enter_context(socket.create_server((HOST, 0), backlog=1024))
        self.port: int = listener.getsockname()[1]
        stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def asked(self) -> Counter[str]:
        return self._asked.copy()

    def forget(self) -> None:
        """Say nothing more on any connection that is open, not even its end: packets there go astray."""
        self._forgotten += 1

    def most_dials(self, seconds: float) -> int:
        """The most connections within any such time."""
        times = self.dialled_at
        return max((sum(start <= one < start + seconds for one in times) for start in times), default=0)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self.dialled_at.append(time.monotonic())
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(sock, server_side=True) as wrapped:
                self.resumed += bool(wrapped.session_reused)
                self._talk(wrapped)

    def _talk(self, sock: ssl.SSLSocket) -> None:
        received, number, forgotten = b"", 0, self._forgotten
        while data := sock.recv(65_536):
            self.octets += len(data)
            received += data
            while len(received) >= 2 and len(received) >= (end := 2 + int.from_bytes(received[:2])):
                query, received = received[2:end], received[end:]
                number += 1
                self._asked[_name_in(query)] += 1
                what = "drop" if forgotten < self._forgotten else self._conduct(number)
                if what == "answer":
                    response = answer(query)
                    sock.sendall(len(response).to_bytes(2) + response)
                elif what == "close":
                    sock.settimeout(0.0)  # the client's close_notify is not waited for
                    sock.unwrap()
                    return


def answer(query: bytes) -> bytes:
    """One address, whatever was asked for."""
    end = query.index(0, 12) + 1 + 4  # the question's name, its type and its class
    return query[:2] + HEADER + query[12:end] + ANSWER


def unused_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _name_in(query: bytes) -> str:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels)
