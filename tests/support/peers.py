"""The other end of a connection, under the test's control: servers that follow a script, clients that misbehave.

Each runs on blocking sockets of its own and shares no code with what is tested but the message helpers.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.messages import question_of, record, response_to, stream_of

GIVE_UP = 10.0
"Seconds after which a peer that waits in vain has found a failure."

RESET = struct.pack("ii", 1, 0)
"SO_LINGER switched on with 0 seconds: closing then resets the connection."


def name_in(message: bytes) -> str:
    """The first label of the question."""
    return question_of(message)[1 : 1 + message[12]].decode()


def answer(query: bytes, *_: object) -> bytes:
    """A response with one A record; also a handler for any server."""
    return response_to(query, record(data=b"\xc0\x00\x02\x01"))


def happens(event: threading.Event) -> None:
    """Wait for what must come."""
    assert event.wait(GIVE_UP), "the test waited in vain for the other side"


class Caller:
    """One client, as the scripted server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(GIVE_UP)
        self.socket = sock
        self._received = b""

    def query(self) -> bytes:
        """The next query, without its length prefix; :class:`EOFError` if the client ends instead."""
        while len(self._received) < 2 or len(self._received) < 2 + int.from_bytes(self._received[:2]):
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self._received += data
        end = 2 + int.from_bytes(self._received[:2])
        message, self._received = self._received[2:end], self._received[end:]
        return message

    def queries(self, count: int) -> list[bytes]:
        """So many of them."""
        return [self.query() for _ in range(count)]

    def rest(self) -> bytes:
        """Everything up to the client's end, however it comes about."""
        with suppress(OSError):
            while data := self.socket.recv(65_536):
                self._received += data
        return self._received

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            self._received += self.socket.recv(65_536)
        except TimeoutError:
            return not self._received
        finally:
            self.socket.settimeout(GIVE_UP)
        return False

    def send(self, *messages: bytes) -> None:
        """These messages in one write."""
        self.socket.sendall(stream_of(messages))

    def send_close_notify(self) -> None:
        """Send close_notify."""
        assert isinstance(self.socket, ssl.SSLSocket)
        self.socket.settimeout(0.0)  # the client's own is not waited for
        with suppress(OSError):
            self.socket.unwrap()

    def reset(self) -> None:
        """End with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


class Scripted:
    """A server that follows a script with each client."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.accepted = 0
        "Connections that were accepted."
        self.handshakes = 0
        "TLS handshakes that came through."


Script = Callable[[Caller], Any]


@contextmanager
def scripted(script: Script, certificate_file: Path | None, *, receive_buffer: int | None = None) -> Iterator[Scripted]:
    """A server on 127.0.0.1 that runs ``script`` for each client; without a certificate it speaks bare TCP.

    What a script raises fails the test, but for the client's end.  ``receive_buffer`` is in octets.
    """
    context = None
    if certificate_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file)
    listener = socket.create_server(("127.0.0.1", 0))
    if receive_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    server = Scripted(listener)
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []

    def talk(sock: socket.socket) -> None:
        try:
            sock.settimeout(GIVE_UP)
            if context is not None:
                with suppress(OSError):
                    sock.getpeername()  # a client that has gone already would make ssl leave the socket open
                    sock = context.wrap_socket(sock, server_side=True)
                if not isinstance(sock, ssl.SSLSocket):
                    return  # the client has refused us
                server.handshakes += 1
            with suppress(EOFError):
                script(Caller(sock))
        except BaseException as error:
            failures.append(error)
        finally:
            sock.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                server.accepted += 1
                threads.append(threading.Thread(target=talk, args=(sock,)))
                threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(GIVE_UP)
    if failures:
        raise failures[0]


@contextmanager
def unanswering() -> Iterator[int]:
    """A port that answers no SYN, since its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        try:
            while True:
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.05)
                try:
                    sock.connect(listener.getsockname())
                except TimeoutError:
                    break
            yield listener.getsockname()[1]
        finally:
            for sock in waiting:
                sock.close()


class RawClient:
    """A TLS client that does what it likes with TCP, and tells close_notify from the end of TCP alone."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        first_octets: bytes = b"",
        receive_buffer: int | None = None,
        **settings: Any,
    ) -> None:
        """``settings`` are attributes of :class:`ssl.SSLContext`; ``receive_buffer`` is in octets.

        ``first_octets`` go before TLS.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for name, value in settings.items():
            setattr(context, name, value)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.settimeout(GIVE_UP)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        self._received = b""
        try:
            self.socket.connect((host, port))
            self.socket.sendall(first_octets)
            self._shake_hands()
        except BaseException:
            self.socket.close()
            raise

    def _shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                break
        self._flush()

    def send(self, *messages: bytes, rest: bytes = b"", close_notify: bool = False) -> None:
        """These queries in one write to TCP, perhaps with a part of another and with close_notify behind them."""
        self.tls.write(stream_of(messages) + rest)
        if close_notify:
            with suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        self._flush()

    def message(self) -> bytes:
        """The next response, without its length prefix; :class:`EOFError` where close_notify comes instead."""
        while len(self._received) < 2 or len(self._received) < 2 + int.from_bytes(self._received[:2]):
            data = self._read()
            if not data:
                raise EOFError
            self._received += data
        end = 2 + int.from_bytes(self._received[:2])
        message, self._received = self._received[2:end], self._received[end:]
        return message

    def ends_in_order(self) -> bool:
        """Whether the next that comes is close_notify; raises what else TCP or TLS do."""
        assert not self._received
        return self._read() == b""

    def finish(self) -> bytes:
        """Send FIN, and return what TCP still brings; raises :class:`ConnectionResetError` for a reset."""
        self.socket.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: self.socket.recv(65_536), b""))

    def reset(self) -> None:
        """End with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _read(self) -> bytes:
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLZeroReturnError:  # instead of b"", where we have sent close_notify too
                return b""

    def _feed(self) -> None:
        data = self.socket.recv(65_536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        self.socket.sendall(self._outgoing.read())
