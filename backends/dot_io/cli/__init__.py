"""The ``dot-proto`` command: which subcommand, and what becomes of its errors.

Subcommands are imported when they are named, so that ``dot-proto --help`` works without any optional package,
and a missing one costs a line that says what to install.  A subcommand ``x`` has a parser ``parse_x`` in
:mod:`dot_io.cli.arguments`, or in a module ``x_line`` of its own, and a function ``run(parsed) -> int`` in
``dot_io.cli.x``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

from ._errors import UsageError, complain, discard, prepare_streams
from ._version import is_compiled, version
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
    "proxy": "answer this machine's DNS clients, and ask authenticated servers over TLS",
    "demo": "ask a server of our own on loopback, once rightly and once with a wrong pin",
}

EXTRAS: Final = {"dns": "cli", "cryptography": "cli", "idna": "cli", "trustme": "demo", "yaml": "stubby"}
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


def process() -> int:
    """:func:`main` as a process of its own: SIGINT ends it at any moment, without a traceback.

    The first one is raised as KeyboardInterrupt, so that what is open is closed; one more ends the process at once.
    One that comes where Python can only report it, as in a finalizer, does so too.
    """
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller has it ignored
            signal.signal(signal.SIGINT, _interrupt)
            sys.unraisablehook = _report
        code = main()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; the interpreter still has to end
    except KeyboardInterrupt:
        code = INTERRUPTED
    return code


def _interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGINT, _interrupt_again)
    raise KeyboardInterrupt


def _interrupt_again(*_: object) -> None:
    os._exit(INTERRUPTED)


def _report(unraisable: sys.UnraisableHookArgs) -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)


def main(argv: list[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's own) and return its :class:`ExitCode`."""
    words = sys.argv[1:] if argv is None else argv
    try:
        prepare_streams()
        return _guarded(words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)  # whoever read it has gone, as "head" does
        return BROKEN_PIPE


def _guarded(words: list[str]) -> int:
    try:
        code = _run(words)
        sys.stdout.flush()
    except UsageError as error:
        return _end(str(error), error.code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return _internal(error)
        install = f"pip install 'dot-proto[{EXTRAS[package]}]'"
        return _end(f"the package {package!r} is needed here and is not installed: {install}", ExitCode.USAGE)
    except BrokenPipeError:
        raise
    except OSError as error:  # files and networks have their own handling: this is about the output, or no space
        return _end(f"the system refuses: {error}", ExitCode.INTERNAL)
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # CPython 3.11 wraps what interrupts the making of a class
            return INTERRUPTED
        return _internal(error)
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return ExitCode.ANSWER if words else ExitCode.USAGE
    if words[0] in ("-V", "--version") or (words[0] == "query" and not {"-V", "--version"}.isdisjoint(words)):
        print(f"dot-proto {version()} (compiled: {'yes' if is_compiled() else 'no'})")
        return ExitCode.ANSWER
    command = words[0]
    if command not in COMMANDS:
        raise UsageError(f"{command!r} is no command; {_advice(command)}")
    if command != "proxy" and not {"-h", "--help"}.isdisjoint(words):  # that one's parser shows its own
        from .tables import TABLES

        print(TABLES[command].help_screen())
        return ExitCode.ANSWER
    return _subcommand(command, words[1:])


def _subcommand(command: str, words: list[str]) -> int:
    """Run it.  Statements import it, and no strings: whatever freezes programs finds the former alone."""
    match command:
        case "query":
            from .query_line import parse_query

            parsed_query = parse_query(words)
            from .query import run as run_query

            return run_query(parsed_query)
        case "pin":
            from .arguments import parse_pin

            parsed_pin = parse_pin(words)
            from .pin import run as run_pin

            return run_pin(parsed_pin)
        case "proxy":
            from .proxy_line import parse_proxy

            parsed_proxy = parse_proxy(words)
            from .proxy import run as run_proxy

            return run_proxy(parsed_proxy)
        case _:
            from .arguments import parse_demo

            parsed_demo = parse_demo(words)
            from .demo import run as run_demo

            return run_demo(parsed_demo)


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
        discard(sys.stdout)
    complain(text)
    return code
