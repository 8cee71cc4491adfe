"""Whether memory stays as it is while a connection is used: a client and a server of ours, ten million queries.

    python benchmarks/memory.py            # about a minute and a half
    python benchmarks/memory.py --quick    # 100,000 queries, a second

Both engines run in this process and hand each other their octets, with a clock that is a number.  Of every hundred
queries one is answered late, after its deadline, and one is cancelled: what is kept of them must go too.  The first
twentieth is to warm up; then the process's resident set may not grow by more than :data:`ALLOWED`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

from measure import machine, resident

from dot_proto import (
    AuthenticationPolicy,
    ClientConnection,
    Event,
    Evidence,
    MessageDiscarded,
    PresentedChain,
    QueryReceived,
    QueryTimedOut,
    ResponseReceived,
    ServerConnection,
    make_query,
)

BATCH = 100
"Queries in flight at a time."

ALLOWED = 256.0
"KiB: a few pages of the allocator's, and less than an octet for each ten queries of the whole run."

TIMEOUT = 5.0
"Seconds until a query is given up; the clock here makes a step of more than that for the one that is to be late."

QUERIES = [make_query(f"{number:03}.example.com") for number in range(BATCH)]


def response_to(query: bytes) -> bytes:
    """Its question, one record, and OPT."""
    question_end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\1" + query[12:question_end] + record + opt


class Pair:
    """A client and a server, and the octets between them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = ClientConnection(AuthenticationPolicy.opportunistic(), entropy=Random(1).randbytes)
        self.client.verify_peer(Evidence(PresentedChain(()), None, None, wall_time=0.0), now=self.now)
        self.server = ServerConnection(now=self.now)

    def ask(self) -> int:
        """A batch of queries, every one to its fate; returns how many there were."""
        handles = [self.client.send_query(query, now=self.now, timeout=TIMEOUT) for query in QUERIES]
        asked: list[Event] = self.server.receive_data(b"".join(self.client.data_to_send()), now=self.now)
        self.client.cancel(handles[0], now=self.now)
        *prompt, late = [event for event in asked if isinstance(event, QueryReceived)]
        for event in prompt:
            self.server.send_response(event.query, response_to(event.message), now=self.now)
        fates = self.client.receive_data(b"".join(self.server.data_to_send()), now=self.now)
        self.now += TIMEOUT
        fates += self.client.handle_timeout(now=self.now)
        self.server.send_response(late.query, response_to(late.message), now=self.now)
        fates += self.client.receive_data(b"".join(self.server.data_to_send()), now=self.now)
        counts = Counter(map(type, fates))
        expected = {ResponseReceived: BATCH - 2, QueryTimedOut: 1, MessageDiscarded: 2}
        if any(counts[kind] != count for kind, count in expected.items()):
            sys.exit(f"{BATCH} queries have met other fates than they should: {counts}")
        return BATCH


def sizes(total: int) -> Iterator[tuple[int, float]]:
    """KiB in use after each twentieth of the queries."""
    pair, done, step = Pair(), 0, total // 20
    while done < total:
        done += pair.ask()
        if done % step < BATCH:
            yield done, resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, default=10_000_000, help="how many (default 10 million)")
    parser.add_argument("--quick", action="store_true", help="100,000 queries")
    chosen = parser.parse_args()
    total = 100_000 if chosen.quick else chosen.queries
    if total < 20 * BATCH:
        parser.error(f"--queries is {total}; it must be at least {20 * BATCH}")
    machine()
    first: float | None = None
    grown = 0.0
    for done, size in sizes(total):
        first = size if first is None else first
        grown = size - first
        print(f"{done:12,} queries  {size:10,.0f} KiB  {grown:+8,.0f}", flush=True)
    print(f"grown by {grown:,.0f} KiB (aim <= {ALLOWED:.0f}: {'yes' if grown <= ALLOWED else 'NO'})")


if __name__ == "__main__":
    main()
