"""``dot-proto query``: the queries of a command line, and all that there is to see of their answers.

Queries of the same servers and the same settings share a connection.  Text comes out as things happen, so that
whatever fails, everything before it is on the screen; a JSON object comes out when its query has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import groupby
from typing import Final

from dot_proto import DoTError, LocalProtocolError

from ..errors import AuthenticationError
from ._errors import UsageError, complain
from .asking import Answer, Asker, Outcome, check_query_octets
from .displays import Json, Text
from .exit_codes import ExitCode
from .messages import read
from .queries import build
from .query_arguments import QueryArguments, Session
from .servers import Server

WORST_FIRST: Final = (
    ExitCode.PIN,
    ExitCode.NAME,
    ExitCode.UNTRUSTED,
    ExitCode.HANDSHAKE,
    ExitCode.PROTOCOL,
    ExitCode.USAGE,
    ExitCode.NO_REPLY,
    ExitCode.FAILED_RCODE,
    ExitCode.ANSWER,
)
"Of several queries, the code that the process ends with: a refused server before a silent one."


def run(queries: Sequence[QueryArguments]) -> int:
    """Ask, and show what came of it; returns an :class:`ExitCode`, raises :class:`UsageError`.

    A server that is refused ends the run: whatever is behind it is not asked.
    """
    if any(asked.message.key is not None and asked.message.key.is_public for asked in queries):
        complain("warning: whoever lists the processes of this machine sees the key of -y; -k FILE hides it")
    numbered = list(enumerate(queries))
    messages = [_checked(asked) for asked in queries]
    codes: list[ExitCode] = []
    with ExitStack() as stack:
        askers: dict[tuple[tuple[Server, ...], Session], Asker] = {}
        for asked in queries:
            key = asked.servers, asked.session
            if key not in askers:
                askers[key] = stack.enter_context(Asker(*key))
        report = stack.enter_context(_Report(queries, messages))
        for key, group in groupby(numbered, key=lambda one: (one[1].servers, one[1].session)):
            codes += report.of(askers[key], [number for number, _ in group])
            if report.is_refused:
                break
    left = len(queries) - report.shown
    if left:
        complain(f"{left} {'query was' if left == 1 else 'queries were'} not asked")
    return min(codes, key=WORST_FIRST.index)


def _checked(asked: QueryArguments) -> bytes:
    """The query in octets; the engine refuses some that ``+ednsopt`` can make."""
    octets = build(asked)
    if asked.message.options:
        try:
            check_query_octets(octets)
        except LocalProtocolError as error:
            raise UsageError(f"+ednsopt: {error}") from error
    return octets


class _Report:
    """The displays of all queries, one after the other; a context manager, so that an array of JSON has its end."""

    def __init__(self, queries: Sequence[QueryArguments], messages: Sequence[bytes]) -> None:
        self._queries = queries
        self._messages = messages
        self._is_array = len(queries) > 1 and all(one.display.json and not one.display.jsonl for one in queries)
        self.shown = 0
        "Queries whose end has been shown."
        self.is_refused = False
        "Whether a server was refused."

    def of(self, asker: Asker, numbers: Sequence[int]) -> Iterator[ExitCode]:
        """Ask these, which share a connection, and show what comes in their order; yield each one's code."""
        displays = {number: self._display(number) for number in numbers}
        outcomes: dict[int, Outcome] = {}
        waiting = list(reversed(numbers))
        self._separate(waiting[-1])
        try:
            for number, outcome in asker.ask({number: self._messages[number] for number in numbers}, displays):
                outcomes[number] = outcome
                while waiting and waiting[-1] in outcomes:
                    number = waiting.pop()
                    yield self._show(displays[number], outcomes.pop(number), asker)
                    if waiting:
                        self._separate(waiting[-1])
        except DoTError as error:
            self.is_refused = isinstance(error, AuthenticationError)
            if isinstance(error, AuthenticationError):
                displays[waiting[-1]].judge(error.verdict)
            yield self._show(displays[waiting.pop()], error, asker)
            for number in reversed([number for number in waiting if number in outcomes]):
                self._separate(number)
                yield self._show(displays[number], outcomes[number], asker)

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_array and kind is not BrokenPipeError:
            print("]" if self.shown else "[]")

    def _display(self, number: int) -> Text | Json:
        asked = self._queries[number]
        is_json = asked.display.json or asked.display.jsonl
        return Json(asked, self._messages[number]) if is_json else Text(asked, self._messages[number])

    def _separate(self, number: int) -> None:
        """What stands before a text in full: an empty line, if there is one before it."""
        shown = self._queries[number].display
        if self.shown and not (shown.short or shown.json or shown.jsonl) and shown.comments:
            print()

    def _show(self, display: Text | Json, outcome: Outcome, asker: Asker) -> ExitCode:
        code, lines = ExitCode.ANSWER, list[str]()
        if isinstance(outcome, Answer):
            problem = display.answer(outcome, datetime.now().astimezone())
            code, lines = _judged(display.arguments, display.query, outcome, problem)
        else:
            from ._failures import explain  # here alone: most lines are answered

            code, lines = explain(outcome, asker.server.host, asker.server.port or 0)
            if isinstance(outcome, AuthenticationError) and "+tls" in display.arguments.display.ignored:
                lines.append("kdig's +tls alone asks whoever answers; here that is +opportunistic")
        if self._is_array:
            print("," if self.shown else "[")
        display.end(lines)
        complain(*lines)
        self.shown += 1
        return code


def _judged(asked: QueryArguments, query: bytes, answer: Answer, problem: str | None) -> tuple[ExitCode, list[str]]:
    """The code of an answer, and what is wrong with it."""
    if problem is not None:
        return ExitCode.PROTOCOL, [f"the answer cannot be read: {problem}"]
    key = asked.message.key
    if key is None and not asked.display.fail:
        return ExitCode.ANSWER, []
    message = read(answer.octets)
    if key is not None:
        from . import tsig

        if wrong := tsig.problem(answer.octets, message, key, query, read(query)):
            return ExitCode.PROTOCOL, [f"TSIG: {wrong}; this answer may be anybody's"]
    if asked.display.fail and message.rcode:
        return ExitCode.FAILED_RCODE, []
    return ExitCode.ANSWER, []
