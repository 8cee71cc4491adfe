"""``socket.getaddrinfo`` timed in a process whose /etc/resolv.conf is its own: glibc's stub, and the hook.

    unshare --mount python stub.py RESOLV.CONF PORT CA.pem

Each line of standard input is JSON, whether by the hook, and the names; the answer is the seconds that a call took, in
wall time.  Glibc asks port 53 of what the file names; nobody outside of the process's mount namespace sees that file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from answering import HOST
from loopback import HERE, stop

from dot_io.hooks.process import encrypted_dns
from dot_proto import Upstream, certificates_from


class Lookups:
    """The process, as a context manager."""

    def __init__(self, port: int, ca: Path, address: str) -> None:
        configuration = ca.with_name("resolv.conf")
        configuration.write_text(f"nameserver {address}\n")
        command = [sys.executable, str(HERE / "stub.py"), str(configuration), str(port), str(ca)]
        self._process = subprocess.Popen(
            ["unshare", "--mount", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Lookups:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            stop(self._process)

    def time(self, names: list[str], *, by_hook: bool) -> float:
        """Seconds a call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([by_hook, names]), file=self._process.stdin, flush=True)
        said = self._process.stdout.readline()
        if not said:
            sys.exit("the process that calls getaddrinfo has ended")
        return float(said)


def timed(names: list[str]) -> float:
    began = time.perf_counter()
    for name in names:
        socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    return (time.perf_counter() - began) / len(names)


def main() -> None:
    configuration, port, ca = sys.argv[1:]
    subprocess.run(["mount", "--bind", configuration, os.path.realpath("/etc/resolv.conf")], check=True)
    anchors = tuple(certificates_from(Path(ca).read_bytes()))
    upstream = Upstream(name=HOST, addresses=(HOST,), port=int(port), trust_anchors=anchors)
    for line in sys.stdin:
        by_hook, names = json.loads(line)
        with encrypted_dns([upstream]) if by_hook else nullcontext():
            timed(names[:1])  # opens the connection
            print(timed(names), flush=True)


if __name__ == "__main__":
    main()
