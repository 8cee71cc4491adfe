"""The ``dot-proto`` command: which subcommand, and what becomes of its errors.

Subcommands are imported when they are named, so that ``dot-proto --help`` works without any optional package,
and a missing one costs a line that says what to install.  A subcommand ``x`` has a parser ``parse_x`` in
:mod:`dot_io.cli.arguments` and a function ``run(arguments) -> int`` in ``dot_io.cli.x``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import sys
import traceback
from typing import Final

from ._errors import UsageError
from .exit_codes import ExitCode

INTERRUPTED: Final = 130
"What a shell reports for a process ended by SIGINT: 128 + 2."

COMMANDS: Final = {
    "query": "ask a server, and show its certificates, the verdict and the answer",
    "pin": "show the pins of a server's chain, or of a certificate or public key file",
    "demo": "ask a server of our own on loopback, once rightly and once with a wrong pin",
}

EXTRAS: Final = {"dns": "cli", "cryptography": "cli", "trustme": "cli,demo"}
"The extra that brings each optional package."

HELP: Final = "\n".join(
    [
        "usage: dot-proto COMMAND ...",
        "",
        "DNS over TLS (RFC 7858) on the command line.",
        "",
        *(f"  {command:8}{summary}" for command, summary in COMMANDS.items()),
        "",
        "'dot-proto COMMAND --help' says more; 'dot-proto --version' says which version this is.",
    ]
)


def main(argv: list[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's own) and return its :class:`ExitCode`."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return ExitCode.ANSWER if words else ExitCode.USAGE
    if words[0] in ("-V", "--version"):
        print("dot-proto", importlib.metadata.version("dot-proto"))
        return ExitCode.ANSWER
    try:
        return _run(words[0], words[1:])
    except UsageError as error:
        return _complain(str(error), ExitCode.USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return _internal(error)
        install = f"pip install 'dot-proto[{EXTRAS[package]}]'"
        return _complain(f"the package {package!r} is needed here and is not installed: {install}", ExitCode.USAGE)
    except Exception as error:
        return _internal(error)


def _run(command: str, words: list[str]) -> int:
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(COMMANDS)}"
        raise UsageError(f"{command!r} is no command; {advice}")
    arguments = importlib.import_module(".arguments", __name__)
    parsed = getattr(arguments, f"parse_{command}")(words)
    return int(importlib.import_module(f".{command}", __name__).run(parsed))


def _internal(error: Exception) -> int:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = f"internal error, please report it: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    return _complain(text, ExitCode.INTERNAL)


def _complain(text: str, code: ExitCode) -> int:
    print(f"dot-proto: {text}", file=sys.stderr)
    return code
