"""What comes of one query, shown as text while things happen, or as JSON at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from dot_proto import DoTError, Verdict

from ..tls import ClientContext
from . import answers, presentation
from ._errors import complain
from .asking import Answer
from .presentation import DEBUG, SessionFacts
from .query_arguments import Display, QueryArguments
from .servers import Server

COMMENT: Final = "36"
"Cyan (ECMA-48, section 8.3.117), for whatever is no record."

WARNING: Final = "33"
"Yellow."


@dataclass(slots=True)
class Text:
    """kdig's layout, line by line as things happen."""

    arguments: QueryArguments
    query: bytes
    display: Display = field(init=False)
    server: Server = field(init=False)
    _is_begun: bool = False

    def __post_init__(self) -> None:
        shown = self.arguments.display
        self.display = shown if shown.idn is not None else shown._replace(idn=sys.stdout.isatty())
        self.server = self.arguments.servers[0]

    def begin(self, server: Server, context: ClientContext) -> None:
        """A server is about to be connected to."""
        self._begin(server)
        session = self.arguments.session
        if session.validates(server) and self.display.debug:
            file = session.ca_file or None
            self._debug(presentation.imported(context.count_trust_anchors(), file))

    def judge(self, verdict: Verdict) -> None:
        """It was judged."""
        if self.display.debug:
            self._debug(presentation.judgement(verdict))

    def connect(self, facts: SessionFacts) -> None:
        """It was accepted."""
        self._debug(presentation.handshake_details(facts))
        if self._is_long() and self.display.qr:
            when = datetime.now().astimezone()
            self._session(facts)
            self._print(answers.sent(self.query, when, self.server, self.display))
        if self._is_long():
            self._session(facts)

    def give_up(self, server: Server, error: DoTError) -> None:
        """It did not answer, and the next one is tried."""
        complain(f"warning: {server.host}@{server.port}: {error}; the next server is tried")

    def answer(self, answer: Answer, when: datetime) -> str | None:
        """Show it; returns why it cannot be read to its end."""
        if not answer.is_first:
            self._begin(answer.server)
            self.connect(answer.facts)
        if self.display.short:
            lines, warnings, problem = answers.short(answer.octets, self.display)
            self._print(lines)
            complain(*(f"warning: {warning}" for warning in warnings))
        else:
            lines, problem = answers.answer(answer.octets, self.display)
            self._print(lines)
            if self.display.stats:
                self._print(answers.footer(answer.octets, when, answer.server, answer.times))
        if self.display.debug:
            self._debug(presentation.durations(answer.times))
            self._debug(answers.explained(answer.octets, self.query))
            if answer.discarded:
                self._debug([f"{DEBUG}{answer.discarded}"])
        return problem

    def end(self, errors: list[str]) -> None:
        """Nothing: they go to stderr."""

    def _begin(self, server: Server) -> None:
        self.server = server
        asked = self.arguments
        if not self._is_begun:
            self._debug(f"{DEBUG}{word} changes nothing over TLS" for word in self.display.ignored)
            self._is_begun = True
        self._debug(presentation.querying(asked.name, asked.rdclass, asked.rdtype, server.host, server.port or 0))

    def _is_long(self) -> bool:
        return not self.display.short

    def _session(self, facts: SessionFacts) -> None:
        if self.display.header and self.display.comments:
            self._print(presentation.session(facts))

    def _debug(self, lines: Iterable[str]) -> None:
        if self.display.debug:
            self._print(lines)

    def _print(self, lines: Iterable[str]) -> None:
        is_coloured = has_colours(self.display.color)
        for line in lines:
            print(coloured(line) if is_coloured else line)


def has_colours(wish: str) -> bool:
    """Whether stdout is to be coloured; by itself on a terminal alone, and not where NO_COLOR says so."""
    if wish != "auto":
        return wish == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def coloured(line: str) -> str:
    """``line`` in the colour of its kind."""
    if not line.startswith(";"):
        return line
    return f"\x1b[{WARNING if line.startswith(';; WARNING') else COMMENT}m{line}\x1b[0m"


@dataclass(slots=True)
class Json:
    """One object, whatever happened."""

    arguments: QueryArguments
    query: bytes
    verdict: Verdict | None = None
    facts: SessionFacts | None = None
    message: dict[str, Any] = field(default_factory=dict[str, Any])
    when: datetime | None = None
    shown: Answer | None = None
    warnings: list[str] = field(default_factory=list[str])

    def begin(self, server: Server, context: ClientContext) -> None:
        """Nothing yet."""

    def judge(self, verdict: Verdict) -> None:
        """It was judged."""
        self.verdict = verdict

    def connect(self, facts: SessionFacts) -> None:
        """It was accepted."""
        self.facts = facts

    def give_up(self, server: Server, error: DoTError) -> None:
        """It did not answer, and the next one is tried."""
        self.warnings.append(f"{server.host}@{server.port}: {error}; the next server is tried")
        complain(f"warning: {self.warnings[-1]}")

    def answer(self, answer: Answer, when: datetime) -> str | None:
        """Keep it; returns why it cannot be read to its end."""
        from . import json_form  # here alone: text, which is usual, starts 4 % sooner without it

        self.message, problem = json_form.message(answer.octets)
        self.when, self.shown, self.facts, self.verdict = when, answer, answer.facts, answer.verdict
        return problem

    def end(self, errors: list[str]) -> None:
        """Print the object; ``errors`` is what went wrong."""
        from . import json_form

        times = None if self.shown is None else self.shown.times
        tls = json_form.tls(self.facts, self.verdict, times, errors)
        if self.shown is not None:
            tls["server"] = f"{self.shown.server.host}@{self.shown.server.port}"
        if self.shown is not None and self.shown.discarded:
            tls["discarded"] = self.shown.discarded
        if self.warnings:
            tls["warnings"] = self.warnings
        if not self.message:
            self.message = json_form.asked(self.arguments.name, self.arguments.rdtype, self.arguments.rdclass)
        when = self.when or datetime.now().astimezone()
        print(json_form.document(self.message, when, tls, indent=None if self.arguments.display.jsonl else 2))
