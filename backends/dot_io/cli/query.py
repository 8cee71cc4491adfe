"""``dot-proto query``: one question to one server, and all that there is to see of it.

There are two displays, of text and of JSON.  The text comes out as things happen, so that whatever fails,
everything before it is on the screen; the JSON comes out at the end, as one object.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final

import dns.message

from dot_proto import CertificateError, ClientConfiguration, DoTError, Verdict, certificates_from

from .._client import describe_discards
from ..blocking import connect
from ..errors import AuthenticationError
from ..tls import ClientContext, HandshakeCompleted, TLSVersion
from . import presentation
from ._errors import UsageError, complain
from ._failures import explain
from .arguments import QueryArguments
from .certificates import octets_of
from .exit_codes import ExitCode
from .presentation import SessionFacts, Times

UDP_PAYLOAD: Final = 1232
"Octets of the UDP payload size in OPT: of no effect over TLS, but OPT must state one (DNS flag day 2020)."

KEYLOG: Final = "SSLKEYLOGFILE"
"The environment variable that names a file for key material, for a packet analyser; only the command obeys it."


def run(arguments: QueryArguments) -> int:
    """Ask, and show what came of it; returns an :class:`ExitCode`, raises :class:`UsageError`.

    Each of several questions has a connection and an output of its own; the first that fails is the last.
    """
    code: int = ExitCode.ANSWER
    for number, one in enumerate(arguments.each()):
        if number and not (one.short or one.json):
            print()
        code = _run_one(one)
        if code != ExitCode.ANSWER:
            break
    return code


def _run_one(arguments: QueryArguments) -> ExitCode:
    display: _Text | _Json = _Json() if arguments.json else _Text(arguments)
    code, lines = ExitCode.ANSWER, list[str]()
    try:
        context = _context(arguments)
        display.begin(context)
        if problem := _ask(arguments, context, display):
            code, lines = ExitCode.PROTOCOL, [f"the answer cannot be read: {problem}"]
    except DoTError as error:
        code, lines = explain(error, arguments.server, arguments.port)
        if isinstance(error, AuthenticationError):
            display.judge(error.verdict)
    display.end(lines)
    complain(*lines)
    return code


def _ask(arguments: QueryArguments, context: ClientContext, display: _Text | _Json) -> str | None:
    """Connect, ask, and show; returns what is wrong with an answer that cannot be read."""
    # The connection carries one query, so there is nothing to keep alive.
    configuration = ClientConfiguration(padding_block=arguments.padding, keepalive=False)
    with connect(
        arguments.server,
        port=arguments.port,
        timeout=arguments.timeout,
        configuration=configuration,
        context=context,
        first_query=_query(arguments),
    ) as client:
        assert client.handshake is not None, "connect() returns only after the handshake"
        display.judge(client.verdict)
        display.connect(_facts(client.handshake))
        connected_at = monotonic()
        octets = client.first_response()
        times = Times(client.connect_time, client.handshake_time, monotonic() - connected_at)
    display.discard(describe_discards(client.discarded))
    return display.answer(octets, datetime.now().astimezone(), times)


def _query(arguments: QueryArguments) -> bytes:
    message = dns.message.make_query(
        arguments.name,
        arguments.rdtype,
        arguments.rdclass,
        use_edns=0,
        want_dnssec=arguments.dnssec,
        payload=UDP_PAYLOAD,
    )
    return message.to_wire()


def _context(arguments: QueryArguments) -> ClientContext:
    anchors = None if arguments.ca_file is None else _anchors(arguments.ca_file)
    policy = arguments.policy(anchors)
    keylog_file = os.environ.get(KEYLOG) or None
    only = TLSVersion.TLSv1_2 if arguments.tls12_only else None
    try:
        return ClientContext(
            policy,
            minimum_version=only,
            maximum_version=only,
            sessions=False,
            keylog_file=keylog_file,
            observe_handshake=arguments.debug or arguments.json,
        )
    except OSError as error:  # of the only file that is opened there
        raise UsageError(f"{KEYLOG}={keylog_file}: {error.strerror or error}") from error
    except CertificateError as error:  # of the only certificates that are given there
        raise UsageError(f"+tls-ca={arguments.ca_file}: {error}") from error


def _anchors(file: str) -> tuple[bytes, ...]:
    try:
        return tuple(certificates_from(octets_of(file)))
    except UsageError as error:
        raise UsageError(f"+tls-ca={error}") from error
    except CertificateError as error:
        raise UsageError(f"+tls-ca={file}: {error}") from error


def _facts(handshake: HandshakeCompleted) -> SessionFacts:
    return SessionFacts(
        version=handshake.version,
        cipher=handshake.cipher,
        group=handshake.group,
        signature=handshake.signature,
        alpn=handshake.alpn,
        resumed=handshake.is_resumed,
    )


@dataclass
class _Text:
    """kdig's layout, line by line as things happen."""

    arguments: QueryArguments

    def begin(self, context: ClientContext) -> None:
        asked = self.arguments
        self._debug(presentation.querying(asked.name, asked.rdclass, asked.rdtype, asked.server, asked.port))
        if asked.validates and asked.debug:
            self._debug(presentation.imported(context.count_trust_anchors(), asked.ca_file))

    def judge(self, verdict: Verdict) -> None:
        if self.arguments.debug:
            self._debug(presentation.judgement(verdict))

    def connect(self, facts: SessionFacts) -> None:
        self._debug(presentation.handshake_details(facts))
        if not self.arguments.short:
            _print(presentation.session(facts))

    def answer(self, octets: bytes, when: datetime, times: Times) -> str | None:
        if self.arguments.short:
            lines, warnings, problem = presentation.short(octets)
            _print(lines)
            complain(*(f"warning: {warning}" for warning in warnings))
        else:
            lines, problem = presentation.answer(octets)
            _print(lines)
            _print(presentation.footer(octets, when, self.arguments.server, self.arguments.port, times))
        self._debug(presentation.durations(times))
        return problem

    def discard(self, text: str) -> None:
        if text:
            self._debug([f"{presentation.DEBUG}{text}"])

    def end(self, errors: list[str]) -> None:
        """Nothing: they go to stderr."""

    def _debug(self, lines: Iterable[str]) -> None:
        if self.arguments.debug:
            _print(lines)


@dataclass
class _Json:
    """One object, whatever happened."""

    verdict: Verdict | None = None
    facts: SessionFacts | None = None
    times: Times | None = None
    message: dict[str, object] = field(default_factory=dict[str, object])
    when: datetime | None = None
    discarded: str = ""

    def begin(self, context: ClientContext) -> None:
        """Nothing yet."""

    def judge(self, verdict: Verdict) -> None:
        self.verdict = verdict

    def connect(self, facts: SessionFacts) -> None:
        self.facts = facts

    def discard(self, text: str) -> None:
        self.discarded = text

    def answer(self, octets: bytes, when: datetime, times: Times) -> str | None:
        from . import json_form  # here alone: text, which is usual, starts 4 % sooner without it

        self.message, problem = json_form.message(octets)
        self.when, self.times = when, times
        return problem

    def end(self, errors: list[str]) -> None:
        from . import json_form

        tls = json_form.tls(self.facts, self.verdict, self.times, errors)
        if self.discarded:
            tls["discarded"] = self.discarded
        _print([json_form.document(self.message, self.when or datetime.now().astimezone(), tls)])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
