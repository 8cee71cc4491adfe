"""``dot-proto pin``: the pins of a server's chain as it was sent, or of what a file holds.

What a server sends proves nothing by itself, and the output says so: a pin is worth having once it agrees with
what the server's operator tells by another way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    CertificateFacts,
    DoTError,
    LocalProtocolError,
    Pin,
    certificates_from,
)

from ..blocking import connect
from ..tls import ClientContext
from . import json_form
from ._errors import UsageError, complain, printable
from ._failures import explain
from .arguments import PinArguments
from .certificates import date, octets_of, subject
from .exit_codes import ExitCode
from .values import FILE_SUFFIXES


def run(arguments: PinArguments) -> int:
    """Show pins; returns an :class:`ExitCode`, raises :class:`UsageError`."""
    target = arguments.target
    if not target.startswith("@"):
        is_path = os.sep in target
        if os.path.exists(target) and (is_path or not os.path.isdir(target)):  # also a pipe, as <(command) makes one
            return _of_file(arguments)
        if is_path or target.lower().endswith(FILE_SUFFIXES):
            advice = "" if is_path else f"; a server may be written @{target}"
            raise UsageError(f"{target}: no such file{advice}")
    return _of_server(arguments)


def _of_file(arguments: PinArguments) -> ExitCode:
    file = arguments.target
    data = octets_of(file)
    try:
        certificates = tuple(map(CertificateFacts.of, certificates_from(data)))
    except CertificateError as error:
        try:
            key = Pin.of_public_key(data)
        except CertificateError as of_key:
            is_of_key = b"BEGIN PUBLIC KEY" in data and b"BEGIN CERTIFICATE" not in data
            raise UsageError(f"{file}: {of_key if is_of_key else error}") from error
        _show(arguments, [f";; the public key in {file}"], [_Key(key, {"pin": str(key)})])
        return ExitCode.ANSWER
    remarks = [
        f";; {file}: {len(certificates)} certificate{'s' if len(certificates) > 1 else ''}",
        ";; A server's own pin may stand alone; an issuer's counts only with a name, +tls-host=NAME.",
    ]
    _show(arguments, remarks, [_key(number, one) for number, one in enumerate(certificates, 1)])
    return ExitCode.ANSWER


def _of_server(arguments: PinArguments) -> ExitCode:
    server = arguments.server()
    assert server.port is not None, "PinArguments.server() always knows one"
    try:
        policy = AuthenticationPolicy.opportunistic(server.name or server.host)
    except LocalProtocolError as error:
        raise UsageError(str(error)) from error
    try:
        context = ClientContext(policy, sessions=False)
        with connect(server.host, port=server.port, timeout=arguments.timeout, context=context) as client:
            verdict = client.verdict
    except DoTError as error:
        code, lines = explain(error, server.host, server.port)
        complain(*lines)
        return code
    if not verdict.presented:
        complain(f"{server.host}@{server.port}: the server showed no certificate that can be read", *verdict.warnings)
        return ExitCode.HANDSHAKE
    remarks = [
        f";; sent by {server.host}@{server.port}, which was asked nothing.  This proves nothing by itself: whoever",
        ";; answers can send any certificate.  Compare with what the server's operator says elsewhere.",
    ]
    keys = {number: _key(number, one, _use(number)) for number, one in verdict.numbered}
    for number, why in verdict.unreadable:
        keys[number] = _Key(None, json_form.unreadable(why), f";; #{number}, cannot be read: {printable(why)}")
    _show(arguments, remarks, [keys[number] for number in sorted(keys)])
    return ExitCode.ANSWER


@dataclass
class _Key:
    """One key to show."""

    pin: Pin | None
    "``None``: its certificate cannot be read."
    described: dict[str, Any]
    title: str | None = None


def _key(number: int, one: CertificateFacts, use: str = "") -> _Key:
    until = date(one.not_after)
    shown = "until a date that cannot be read" if until is None else f"until {until:%Y-%m-%d}"
    return _Key(one.pin, json_form.certificate(one), f";; #{number}, {subject(one.der)} ({shown}){use}")


def _show(arguments: PinArguments, remarks: Iterable[str], keys: Iterable[_Key]) -> None:
    if arguments.json:
        print(json.dumps({"source": arguments.target, "keys": [key.described for key in keys]}, indent=2))
        return
    print(*remarks, sep="\n")
    for key in keys:
        if key.title is not None:
            print(key.title)
        if key.pin is not None:
            print(f"+tls-pin={key.pin}")


def _use(number: int) -> str:
    if number == 1:
        return ": the server's own key, whose pin may stand alone"
    return ": an issuer's, whose pin counts only with a name, +tls-host=NAME"
