"""The command line of ``dot-proto proxy``; it opens no file, and needs no optional package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn

from dot_proto.resolver.operators import OPERATORS

from ._errors import UsageError

EPILOG: Final = """\
examples:
  dot-proto proxy --upstream quad9
  dot-proto proxy --listen 127.0.0.1:5353 --upstream 'tls://192.0.2.1#dns.example' --ca-file root.pem
  dot-proto proxy --config /etc/dot-proto/proxy.toml --check
  dot-proto proxy --from-stubby /etc/stubby/stubby.yml --print-config > proxy.toml

SIGHUP reads the file again, SIGUSR1 empties the cache, and SIGTERM ends it."""


@dataclass(frozen=True, slots=True)
class ProxyArguments:
    """What ``dot-proto proxy`` was asked to do."""

    file: str | None
    "The configuration file, in TOML."
    stubby_file: str | None
    "stubby's configuration file, in YAML, in its place."
    settings: dict[str, Any]
    "What the command line says itself, under the keys of the file, which it beats."
    only_checks: bool
    only_prints: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def parse_proxy(words: Sequence[str]) -> ProxyArguments:
    """Read the words behind ``dot-proto proxy``; raises :class:`UsageError`."""
    parser = _Parser(
        prog="dot-proto proxy",
        usage="dot-proto proxy [--listen ADDRESS:PORT ...] [--upstream UPSTREAM ...] [--config FILE] [OPTION ...]",
        description="Answer DNS clients over UDP and TCP, and ask authenticated upstreams over TLS.\n"
        "Without --listen on 127.0.0.1 and ::1, port 53; only this machine is answered unless the file allows others.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--listen", metavar="ADDRESS:PORT", action="append", help="where to listen, as [::1]:5353; repeatable")
    add(
        "--upstream",
        metavar="UPSTREAM",
        action="append",
        help=f"whom to ask: tls://ADDRESS[:PORT]#NAME, or one of {', '.join(OPERATORS)}; repeatable",
    )
    add("--ca-file", metavar="FILE", help="trust anchors for the URLs of --upstream, in PEM (default: the system's)")
    add("--metrics", metavar="ADDRESS:PORT", help="where Prometheus reads the counters, as 127.0.0.1:9153")
    add("--config", metavar="FILE", help="configuration file in TOML; what the command line says beats it")
    add("--from-stubby", metavar="FILE", help="read stubby.yml in its place (extra stubby)")
    add("--check", action="store_true", help="say what is wrong with the configuration, and end")
    add("--print-config", action="store_true", help="show the whole configuration as a file, and end")
    options, rest = parser.parse_known_args(words)
    if rest:
        raise UsageError(_unknown(rest[0], list(parser._option_string_actions)))
    if options.ca_file is not None and not options.upstream:
        raise UsageError(
            "--ca-file is for the URLs of --upstream, and there is none; in a file: ca_file of [[upstream]]"
        )
    if options.config is not None and options.from_stubby is not None:
        raise UsageError("--config and --from-stubby are two files for one thing: give one of them")
    if options.config is None and options.from_stubby is None and not options.upstream:
        raise UsageError("nobody to ask: give --upstream, as --upstream quad9, or --config FILE")
    settings: dict[str, Any] = {}
    if options.listen:
        settings["listen"] = options.listen
    if options.metrics is not None:
        settings["metrics"] = options.metrics
    if options.upstream:
        anchors = {} if options.ca_file is None else {"ca_file": str(Path(options.ca_file).absolute())}
        settings["upstream"] = [
            {"operator": text} if "://" not in text else {"url": text} | anchors for text in options.upstream
        ]
    return ProxyArguments(options.config, options.from_stubby, settings, options.check, options.print_config)


def _unknown(word: str, flags: list[str]) -> str:
    if not word.startswith("-"):
        return f"{word!r} is nothing that can be done here; an upstream is given by --upstream"
    shown = word.partition("=")[0]
    close = get_close_matches(shown, flags, n=1)
    advice = f"did you mean {close[0]}?" if close else "'dot-proto proxy --help' lists them"
    return f"{shown} is no option; {advice}"
