"""What peers.py measures: which ways to ask, at which servers, how much."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from programs import Spent

PARTS = ("client", "await", "others", "speed", "server", "memory")

PEERS = ("kresd", "dnsdist", "unbound", "named")

RESOLVERS = ("kresd", "dnsdist", "unbound")
"Our server is measured against the best of these."

OURS = "ours asyncio"
"The server of ours at which clients are measured too."

STALLING = ("unbound", "named")
"They leave Nagle on, and answer dnsperf a few thousand times a second."

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None

LOOPS = ("asyncio", *(("uvloop",) if HAS_UVLOOP else ()), "trio")


@dataclass(frozen=True)
class Budget:
    """How much is done."""

    rounds: int
    queries: int
    "Of a job with several in flight; of dnsperf's long run."
    single: int
    "Of a job with one in flight, and of dnsperf's at servers that stall."
    fresh: int
    "Connections of a job that makes one for each query."
    idle: tuple[int, int]
    "Idle connections: few, and many."
    clients_ask: tuple[str, ...]
    "The servers at which the CPU time of clients is measured."


FULL = Budget(7, 20_000, 2_000, 50, (100, 1000), (*PEERS, OURS))
QUICK = Budget(5, 6_000, 1_000, 15, (50, 200), ("kresd", "dnsdist"))
SMOKE = Budget(1, 200, 100, 2, (4, 8), ("dnsdist", OURS))


@dataclass(frozen=True)
class Row:
    """One way to ask."""

    drive: str
    call: str
    in_flight: int = 1
    share: bool = False
    is_default: bool = False
    "Whether with EDNS, padding and keepalive."

    @property
    def name(self) -> str:
        number = f" {self.in_flight}" if self.in_flight > 1 else ""
        return f"{self.drive} {self.call}{number}{', padded' if self.is_default else ''}"


DNSPERF = Row("dnsperf", "-q", 100)
PIPELINED = Row("blocking", "query_many", 64)
PADDED = Row("blocking", "query_many", 64, is_default=True)
MANY = [
    Row(drive, "query_many", number, share)
    for share in (False, True)
    for number in (64, 256)
    for drive in ("blocking", *LOOPS)
]
AWAITED = [Row(drive, "query", 64, share) for share in (False, True) for drive in LOOPS]
FASTEST = Row("blocking", "query_many", 256, share=True)
REUSED = Row("dnspython", "reused")
OTHERS = [REUSED, Row("dnspython", "fresh"), Row("kdig", "+keepopen"), Row("getdns_query", "-B")]
FAST = {
    "blocking": PIPELINED,
    "asyncio": Row("asyncio", "query_many", 64),
    "blocking 256": FASTEST,
    "asyncio 256": Row("asyncio", "query_many", 256, share=True),
}
"What is compared in speed: the defaults, and what is fastest."

Samples = dict[tuple[str, Row], list[Spent]]
"By the server's name and the row: one for each round."

Sample = tuple[str, Row, Spent]


def rows(part: str, server: str, budget: Budget) -> list[Row]:
    """What the part measures at the server."""
    wanted: dict[str, list[Row]] = {
        "client": [*MANY, PADDED],
        "await": AWAITED,
        "others": [PIPELINED, FASTEST, *OTHERS],
    }
    if part == "speed" and server in PEERS:
        return [*FAST.values(), DNSPERF]
    if part == "server":
        return [DNSPERF]
    return [*wanted.get(part, []), DNSPERF] if server in budget.clients_ask else []
