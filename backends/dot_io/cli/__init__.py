"""The ``dot-proto`` command: which subcommand, and what becomes of its errors.

Subcommands are imported when they are named, so that ``dot-proto --help`` works without any optional package,
and a missing one costs a line that says what to install.  A subcommand ``x`` has a parser ``parse_x`` in
:mod:`dot_io.cli.arguments` and a function ``run(arguments) -> int`` in ``dot_io.cli.x``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Final

from ._errors import UsageError, complain
from .exit_codes import ExitCode

INTERRUPTED: Final = 130
"What a shell reports for a process ended by SIGINT: 128 + 2."

BROKEN_PIPE: Final = 141
"What a shell reports for a process ended by SIGPIPE: 128 + 13."

TRACEBACK: Final = "DOT_PROTO_TRACEBACK"
"The environment variable that, set to anything, has an internal error shown with its traceback."

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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without the letters of somebody's name
    try:
        code = _run(words)
        sys.stdout.flush()
    except UsageError as error:
        return _end(str(error), ExitCode.USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()  # whoever read it has gone, as "head" does
        return BROKEN_PIPE
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return _internal(error)
        install = f"pip install 'dot-proto[{EXTRAS[package]}]'"
        return _end(f"the package {package!r} is needed here and is not installed: {install}", ExitCode.USAGE)
    except OSError as error:  # files and networks have their own handling: this is about the output, or no space
        return _end(f"the system refuses: {error}", ExitCode.INTERNAL)
    except Exception as error:
        return _internal(error)
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return ExitCode.ANSWER if words else ExitCode.USAGE
    if words[0] in ("-V", "--version"):
        print("dot-proto", _version())
        return ExitCode.ANSWER
    command = words[0]
    if command not in COMMANDS:
        raise UsageError(f"{command!r} is no command; {_advice(command)}")
    arguments = importlib.import_module(".arguments", __name__)
    parsed = getattr(arguments, f"parse_{command}")(words[1:])
    return int(importlib.import_module(f".{command}", __name__).run(parsed))


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("dot-proto")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def _advice(command: str) -> str:
    import difflib

    close = difflib.get_close_matches(command, COMMANDS, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(COMMANDS)}"


def _internal(error: Exception) -> int:
    import traceback

    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return _end(
        f"internal error, please report it: {type(error).__name__}: {error} ({where.filename}:{where.lineno}); "
        f"{TRACEBACK}=1 shows more",
        ExitCode.INTERNAL,
    )


def _end(text: str, code: ExitCode) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    complain(text)
    return code


def _discard_output() -> None:
    """What could not be written must not be tried again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
