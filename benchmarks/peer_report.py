"""The tables of peers.py, ratios first, and the panels of its picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from peer_rows import (
    AWAITED,
    DNSPERF,
    FAST,
    FASTEST,
    MANY,
    OTHERS,
    OURS,
    PADDED,
    PIPELINED,
    RESOLVERS,
    REUSED,
    Budget,
    Row,
    Samples,
)
from picture import Bar, Panel

CELL, VERDICT = 12, 18
"Of the tables' columns, in characters."


@dataclass(frozen=True)
class Aim:
    """What a ratio must not be above, or below."""

    limit: float
    sign: str = "<="

    def is_reached(self, value: float) -> bool:
        return value <= self.limit if self.sign == "<=" else value >= self.limit


@dataclass(frozen=True)
class Line:
    """A row of a table: by column, the ratios, and the figures behind them."""

    name: str
    ratios: dict[str, float]
    figures: dict[str, float]
    aim: Aim | None = None

    def verdict(self) -> str:
        if self.aim is None or not self.ratios:
            return ""
        missed = [column for column, ratio in self.ratios.items() if not self.aim.is_reached(ratio)]
        if not missed:
            return "yes"
        if len(missed) == len(self.ratios):
            return "NO"
        named = f"not {', '.join(missed)}"
        return named if len(named) <= VERDICT else f"{len(self.ratios) - len(missed)} of {len(self.ratios)}"


def show(
    title: str, columns: Sequence[str], unit: str, lines: list[Line], *, behind: Sequence[str] | None = None
) -> None:
    """Ratios first, then what is aimed at, then the figures."""
    print(f"\n{title}")
    width = max(len(line.name) for line in lines)
    behind = columns if behind is None else behind
    heads, further = ("".join(f"  {column:>{CELL}}" for column in several) for several in (columns, behind))
    print(f"{'':{width}}{heads}  {'aim':>7}  {'reached':<{VERDICT}}{further}  {unit}")
    for line in lines:
        aim = f"{line.aim.sign}{line.aim.limit:.4g}" if line.aim else ""
        ratios, figures = _cells(line.ratios, columns), _cells(line.figures, behind)
        print(f"{line.name:{width}}{ratios}  {aim:>7}  {line.verdict():<{VERDICT}}{figures}".rstrip())


def _cells(values: dict[str, float], columns: Sequence[str]) -> str:
    shown = (f"{values[one]:,.{2 if values[one] < 1000 else 0}f}" if one in values else "-" for one in columns)
    return "".join(f"  {cell:>{CELL}}" for cell in shown)


class Report:
    """What was measured, as tables and as panels of the picture."""

    def __init__(self, samples: Samples, memory: dict[str, float], budget: Budget) -> None:
        self.samples, self.memory = samples, memory
        self.columns = [name for name in budget.clients_ask if any(server == name for server, _ in samples)]
        self.panels: list[Panel] = []

    def ratio(self, server: str, row: Row, base: Row, what: str = "cpu", base_server: str = "") -> float | None:
        """The median of the ratios of the rounds; ``None`` where one of the two was not measured."""
        ours, theirs = self.samples.get((server, row)), self.samples.get((base_server or server, base))
        if not ours or not theirs:
            return None
        ratios = [float(getattr(a, what) / getattr(b, what)) for a, b in zip(ours, theirs, strict=True)]
        return median(ratios)

    def figure(self, server: str, row: Row, what: str = "cpu") -> float | None:
        """Microseconds a query."""
        found = self.samples.get((server, row))
        return median(getattr(one, what) for one in found) * 1e6 if found else None

    def cpu_line(self, row: Row, base: Row, aim: Aim | None = None, name: str = "") -> Line:
        ratios = _found((server, self.ratio(server, row, base)) for server in self.columns)
        figures = _found((server, self.figure(server, row)) for server in self.columns)
        return Line(name or row.name, ratios, figures, aim)

    def client(self) -> None:
        aims = {(False, 64): 0.95, (False, 256): 0.85, (True, 64): 0.75, (True, 256): 0.65}
        for share in (False, True):
            lines = [self.cpu_line(DNSPERF, DNSPERF)]
            for row in MANY:
                if row.share is share:
                    aim = None if row.drive in ("trio", "uvloop") else Aim(aims[share, row.in_flight])
                    lines.append(self.cpu_line(row, DNSPERF, aim))
            for row in MANY:
                if row.share is share and row.drive == "trio":
                    base = Row("asyncio", row.call, row.in_flight, share)
                    lines.append(self.cpu_line(row, base, Aim(1.25), f"trio over asyncio, {row.in_flight}"))
            if not share:
                lines.append(self.cpu_line(PADDED, DNSPERF))
            how = "queries may share TLS records" if share else "one TLS record a query, the default"
            show(f"Client, octets in and out; {how}; CPU of dnsperf -q 100", self.columns, "us/query", lines)
        best = [
            FAST["blocking"],
            FAST["asyncio"],
            Row("trio", "query_many", 64),
            Row("blocking", "query_many", 64, True),
            PADDED,
        ]
        names = ["blocking", "asyncio", "trio", "blocking, shared records", "blocking, padded queries"]
        self.picture_clients(best, names)

    def picture_clients(self, chosen: list[Row], names: list[str]) -> None:
        if not self.columns:
            return
        server = self.columns[0]
        bars = [
            Bar(f"ours, {name}", ratio, f"{ratio:.2f}", True)
            for row, name in zip(chosen, names, strict=True)
            if (ratio := self.ratio(server, row, DNSPERF))
        ]
        for row in (DNSPERF, *reversed(OTHERS)):
            ratio = self.ratio(server, row, DNSPERF)
            bars += [Bar(row.name, ratio, f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}")] if ratio else []
        note = f"of dnsperf's, on {server}; one connection, ours 64 in flight; less is better"
        self.panel("Client: CPU time of a query", note, bars, 4.0)

    def await_(self) -> None:
        aims = {"asyncio": (1.4, 1.2), "uvloop": (1.2, 1.0), "trio": (1.9, 1.7)}
        for share in (False, True):
            lines = [self.cpu_line(row, DNSPERF, Aim(aims[row.drive][share])) for row in AWAITED if row.share is share]
            how = "queries may share TLS records" if share else "one TLS record a query"
            show(f"Each query awaited with its deadline; {how}; CPU of dnsperf", self.columns, "us/query", lines)

    def others(self) -> None:
        aims = {REUSED: Aim(45, ">=")}
        lines = [self.cpu_line(row, PIPELINED, aims.get(row)) for row in (PIPELINED, DNSPERF, *OTHERS)]
        lines.append(self.cpu_line(REUSED, FASTEST, aims[REUSED], "dnspython reused, of ours 256 shared"))
        show(f"Others; CPU of ours, {PIPELINED.name}", self.columns, "us/query", lines)

    def speed(self) -> None:
        aims = {"kresd": 1.5, "dnsdist": 1.5, "unbound": 20.0, "named": 2.0}
        lines, bars = [], []
        for server, limit in aims.items():
            slower = {name: self.ratio(server, DNSPERF, row, "wall") for name, row in FAST.items()}
            figures = _found(
                (name, self.figure(server, row, "wall")) for name, row in {**FAST, "dnsperf": DNSPERF}.items()
            )
            if not figures:
                continue
            ratios = _found(slower.items())
            lines.append(Line(server, ratios, {name: 1e6 / one for name, one in figures.items()}, Aim(limit, ">=")))
            if ratio := ratios.get("blocking"):
                bars.append(Bar(server, ratio, f"{ratio:.1f} times", True))
        if lines:
            columns = list(FAST)
            title = "Queries a second on one connection, of dnsperf's; 64 in flight, or 256 that share TLS records"
            show(title, columns, "queries/s", lines, behind=[*columns, "dnsperf"])
        note = "times dnsperf's, the blocking client, 64 in flight, one record a query; more is better"
        self.panel("Client: queries a second by server", note, bars, 5.0)

    def server(self) -> None:
        costs = {name: self.figure(name, DNSPERF, "server") for name, row in self.samples if row == DNSPERF}
        present = {name: cost for name, cost in costs.items() if cost is not None}
        peers = [name for name in RESOLVERS if name in present]
        if not peers:
            print("\nServers' CPU: not measured, for dnsperf is missing, or kresd, dnsdist and unbound all are")
            return
        best = min(peers, key=present.__getitem__)
        lines, bars = [], []
        for name, cost in present.items():
            ratio = self.ratio(name, DNSPERF, DNSPERF, "server", best)
            aim = Aim(0.5) if name == OURS else None
            lines.append(Line(name, _found([("x", ratio)]), {"x": cost}, aim))
            bars.append(Bar(name, cost, f"{cost:.1f} us", name.startswith("ours")))
        over = self.ratio("ours trio", DNSPERF, DNSPERF, "server", OURS)
        lines.append(Line("trio over asyncio", _found([("x", over)]), {}, Aim(1.3)))
        show(f"Server, ready answers, asked by dnsperf; CPU of {best}, the best of them", ["x"], "us/query", lines)
        self.panel("Server: CPU time of a query", "microseconds, asked by dnsperf; less is better", bars, 100.0)

    def show_memory(self) -> None:
        peers = [self.memory[name] for name in RESOLVERS if name in self.memory]
        lines, bars = [], []
        for name, size in self.memory.items():
            is_ours = name.startswith("ours")
            best = {"x best peer": size / min(peers)} if peers else {}
            lines.append(Line(name, {"KiB": size}, best, Aim(24.0) if is_ours else None))
            bars.append(Bar(name, size, f"{size:.1f} KiB", is_ours))
        show("Memory of an idle connection to a server", ["KiB"], "", lines, behind=["x best peer"])
        self.panel("Server: memory of an idle connection", "KiB of resident set; less is better", bars, 1000.0)

    def panel(self, title: str, note: str, bars: list[Bar], limit: float) -> None:
        if bars:
            self.panels.append(Panel(title, note, bars, limit))


def _found(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: value for name, value in pairs if value is not None}
