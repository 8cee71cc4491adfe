"""The options, as argparse sees them, and their help screens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ._errors import UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

PADDING: Final = 128
"Octets to whose multiples a query is padded (RFC 8467, section 4.1)."

TIMEOUT: Final = 5.0
"Seconds for connect, handshake and answer together; dig's and kdig's value for one try."


class Parser(argparse.ArgumentParser):
    """argparse for options and help screens only; the other words are told apart by form, not by place."""

    def __init__(self, command: str, words: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"dot-proto {command}",
            usage=f"dot-proto {command} {words}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.flags: list[str] = []

    def option(self, *flags: str, **keywords: Any) -> None:
        """Add an option; the keywords are those of ``add_argument``."""
        self.flags.extend(flag.replace("--", "+") for flag in flags)
        self.add_argument(*flags, **keywords)

    def switch(self, flag: str, **keywords: Any) -> None:
        """Add an option without a value."""
        self.option(flag, action="store_true", **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UsageError` where argparse would print and exit; the words are those of dig."""
        text = message.removeprefix("argument ").replace("--", "+")
        raise UsageError(text.replace(": ignored explicit argument", " takes no value, and is given"))

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Show the help screen; argparse ignores that it cannot be written, where this raises OSError."""
        (file or sys.stdout).write(self.format_help())
        sys.stdout.flush()

    def parse(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Options, and the words that are none; raises :class:`UsageError` for an unknown option."""
        options, rest = self.parse_known_args([_as_argparse(word) for word in words])
        for word in rest:
            if word.startswith("-"):
                shown = word.partition("=")[0].replace("--", "+", 1)
                import difflib

                close = difflib.get_close_matches(shown, self.flags, n=1, cutoff=0.75)
                advice = f"did you mean {close[0]}?" if close else f"'{self.prog} --help' lists them"
                raise UsageError(f"{shown} is no option; {advice}")
        return options, rest


def _as_argparse(word: str) -> str:
    if word.startswith("+"):
        word = f"--{word[1:]}"
    # Their value is optional, so it must be attached: argparse would take the next word, which is the name.
    return f"{word}=" if word in ("--tls-ca", "--padding") else word


def query_parser() -> Parser:
    """The options of ``dot-proto query``."""
    parser = Parser(
        "query",
        "[-d] @SERVER[:PORT][#NAME] [OPTION ...] NAME [TYPE] [CLASS]",
        "Ask a server over TLS, once.  Words come in any order; every --x may be written +x, as in dig.\n"
        "Strict unless told otherwise: the system's trust store, and the server's name or address.\n"
        "With pins, and neither --tls-ca nor a name: the pins alone, compared with the server's own key.",
        "examples:\n"
        "  dot-proto query -d @1.1.1.1 +tls-ca +tls-host=cloudflare-dns.com example.com\n"
        "  dot-proto query @9.9.9.9#dns.quad9.net example.com AAAA +short",
    )
    parser.switch("-d", help="show the certificates, the verdict, the session and the times")
    parser.option("-p", metavar="PORT", help="port of the server (default 853)")
    parser.option("-x", metavar="ADDR", help="ask for the name of an address")
    parser.option("--tls-ca", metavar="[FILE]", help="trust anchors in PEM (default: the system's)")
    parser.option("--tls-host", "--tls-hostname", metavar="NAME", help="name that the certificate must be for")
    parser.option(
        "--tls-pin", metavar="BASE64", action="append", default=[], help="SHA-256 of the key to expect; repeatable"
    )
    parser.switch("--opportunistic", help="encrypt, and ask whoever answers")
    parser.switch("--tls1.2", dest="tls12", help="TLS 1.2 only")
    parser.switch("--tls", help="accepted and needless: TLS is always on")
    parser.option("--padding", metavar="[N]", default=str(PADDING), help=f"pad to multiples of N (default {PADDING})")
    parser.option("--nopadding", dest="padding", action="store_const", const=None, help="do not pad")
    parser.switch("--dnssec", help="ask for DNSSEC records")
    parser.option("--nodnssec", dest="dnssec", action="store_false", help="do not (default)")
    parser.switch("--short", help="show the answer's data only")
    parser.switch("--json", help="show the answer as JSON (RFC 8427) with a member 'tls'")
    parser.option(
        "--timeout", "--time", metavar="S", default=str(TIMEOUT), help=f"seconds for all of it (default {TIMEOUT:g})"
    )
    return parser


def pin_parser() -> Parser:
    """The options of ``dot-proto pin``."""
    parser = Parser(
        "pin",
        "[-p PORT] [--tls-host=NAME] [--timeout=S] [--json] SERVER|FILE",
        "Show the SHA-256 pins of a server's chain, or of a certificate or public key in a file (PEM or DER).\n"
        "A server is asked nothing, and what it shows proves nothing by itself: compare it with what you were told.",
    )
    parser.option("-p", metavar="PORT", help="port of the server (default 853)")
    parser.option("--tls-host", "--tls-hostname", metavar="NAME", help="name to ask the server for")
    parser.option("--timeout", "--time", metavar="S", default=str(TIMEOUT), help=f"seconds (default {TIMEOUT:g})")
    parser.switch("--json", help="show them as JSON")
    return parser


def demo_parser() -> Parser:
    """The options of ``dot-proto demo``: there is nothing to choose."""
    return Parser("demo", "", "Ask a server of our own on loopback, rightly and with a wrong pin; needs no network.")
