"""The crowd that crowd.py brings: connections that send nothing, and are opened again whenever the server ends one.

    python crowding.py PORT CONNECTIONS ADDRESSES

A line tells that all are open.  From then on each line of standard input is answered by the number of connections that
were opened again; its end ends the crowd.
"""

from __future__ import annotations

import selectors
import socket
import sys
from contextlib import suppress

from answering import HOST


class Crowd:
    """Connections from as many addresses, the same number from each."""

    def __init__(self, port: int, connections: int, addresses: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.renewed = 0
        for number in range(connections):
            self._open(f"127.1.{number % addresses >> 8}.{number % addresses & 255}")

    def _open(self, host: str) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((host, 0))
        with suppress(BlockingIOError):
            sock.connect((HOST, self._port))
        self._selector.register(sock, selectors.EVENT_READ, host)

    def run(self) -> None:
        """Until standard input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        print("open", flush=True)
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.fileobj, socket.socket):
                    # Nothing is sent to a client that sends nothing: this is its end.
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.renewed += 1
                    self._open(key.data)
                elif sys.stdin.readline():
                    print(self.renewed, flush=True)
                else:
                    return


if __name__ == "__main__":
    Crowd(*map(int, sys.argv[1:])).run()
