"""How often a program wakes up that has a resolver and asks nothing.

    python resting.py {asyncio,trio,blocking} PORT CA.pem QUERIES

The program asks so many queries, says that it rests, and does so until it is ended.  Meanwhile its voluntary context
switches are counted, of all threads together: whatever wakes up has to sleep again.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import trio
from answering import HOST, NAMES
from loopback import HERE, stop

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_proto import Upstream, certificates_from, make_query

BACKENDS = ("asyncio", "trio", "blocking")

SETTLE = 0.3
"Seconds after which nothing is under way any more: the server's tickets have come."


def wake_ups(backend: str, port: int, ca: Path, seconds: float) -> list[int]:
    """In so much time, with no connection open, and with one."""
    counts = []
    for queries in (0, 1):
        command = [sys.executable, str(HERE / "resting.py"), backend, str(port), str(ca), str(queries)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "resting\n":
                sys.exit(f"the program on {backend} does not come to rest")
            time.sleep(SETTLE)
            before = switches(process.pid)
            time.sleep(seconds)
            counts.append(switches(process.pid) - before)
        finally:
            stop(process)
            process.stdout.close()
    return counts


def switches(pid: int) -> int:
    states = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(
        int(number) for state in states for number in re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", state, re.M)
    )


async def on_asyncio(upstream: Upstream, asked: list[bytes]) -> None:
    async with dot_io.asyncio.Resolver([upstream]) as resolver:
        for message in asked:
            await resolver.query(message)
        print("resting", flush=True)
        await asyncio.Event().wait()


async def on_trio(upstream: Upstream, asked: list[bytes]) -> None:
    async with dot_io.trio.Resolver([upstream]) as resolver:
        for message in asked:
            await resolver.query(message)
        print("resting", flush=True)
        await trio.sleep_forever()


def on_blocking(upstream: Upstream, asked: list[bytes]) -> None:
    with dot_io.blocking.Resolver([upstream]) as resolver:
        for message in asked:
            resolver.query(message)
        print("resting", flush=True)
        signal.pause()


def main() -> None:
    backend, port, ca, queries = sys.argv[1:]
    anchors = tuple(certificates_from(Path(ca).read_bytes()))
    upstream = Upstream(name=HOST, addresses=(HOST,), port=int(port), trust_anchors=anchors)
    asked = [make_query(name) for name in NAMES[: int(queries)]]
    if backend == "asyncio":
        asyncio.run(on_asyncio(upstream, asked))
    elif backend == "trio":
        trio.run(on_trio, upstream, asked)
    else:
        on_blocking(upstream, asked)


if __name__ == "__main__":
    main()
