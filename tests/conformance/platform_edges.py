"""What the platform does, what becomes of it on each backend, and which tests prove it: the second table of the page.

:mod:`conformance.faults` writes it; a test holds it against the tests that there are, both ways.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]

ALL = ("blocking", "asyncio", "uvloop", "trio")

INTERRUPTIONS = "conformance/test_interruptions.py"
DIALLING = "conformance/test_dialling.py"
PROCESSES = "conformance/test_processes.py"
CALLS = "conformance/test_system_calls.py"
FLOODS = "backends/test_tls_floods.py"
STREAMS = "cli/test_streams.py"
LAST = "conformance/test_servers_last.py"
CLOSE = "conformance/test_servers_close.py"

MODULES = (INTERRUPTIONS, PROCESSES, DIALLING, CALLS, FLOODS, STREAMS)
"Each test of these stands in a row, or in :data:`ELSEWHERE`."


@dataclass(frozen=True)
class Edge:
    """One situation."""

    situation: str
    outcome: str | dict[str, str]
    "On all backends; or by backend, several names being separated by spaces."
    tests: dict[str, tuple[str, ...]]
    "By module: the names without ``test_``."

    def outcomes(self) -> dict[str, str]:
        """The outcome by backend; the command has one row for all, being no backend."""
        if isinstance(self.outcome, str):
            return dict.fromkeys(ALL, self.outcome)
        return {name: words for names, words in self.outcome.items() for name in names.split()}


EDGES = (
    Edge(
        "`fork()` with an open client, or with lookups under way; there may be no descriptor left",
        "the child's copy is closed without an octet on the wire, and asking it raises `ConnectionLostError`; no "
        "session to resume and no lock is shared; the parent goes on",
        {
            INTERRUPTIONS: (
                "a_forked_child_leaves_its_parents_connection_alone",
                "a_forked_child_leaves_them_alone_whatever_became_of_others",
                "a_client_whose_loop_has_ended_keeps_no_other_from_being_forgotten",
                "a_child_that_only_exits_says_nothing",
            ),
            PROCESSES: (
                "a_child_forked_amid_a_handshake_leaves_it_alone",
                "a_child_without_descriptors_leaves_its_parents_connection_alone",
                "a_child_meets_no_lock_of_its_parents_threads",
            ),
            DIALLING: ("a_forked_child_looks_names_up_though_all_threads_of_its_parent_hang",),
        },
    ),
    Edge(
        "SIGPIPE at its default, and a peer that resets TCP",
        "`ConnectionLostError`, and no signal",
        {INTERRUPTIONS: ("a_reset_is_an_error_and_no_signal",)},
    ),
    Edge(
        "The process is stopped past a deadline (SIGSTOP, a suspended machine), and the answer, or the server's part "
        "of the handshake, came meanwhile",
        "it counts",
        {
            INTERRUPTIONS: ("a_process_that_was_stopped_past_its_deadline_takes_the_answer",),
            PROCESSES: ("a_process_that_was_stopped_amid_its_handshake",),
        },
    ),
    Edge(
        "A clock that jumps",
        "deadlines are on the monotonic clock, and do not move; what ends by the calendar (certificates, tickets) is "
        "looked at by the wall clock when it is used",
        {
            "backends/test_pytest_plugin.py": ("frozen_clocks",),
            "backends/test_tls_session_ends.py": (
                "no_ticket_is_offered_past_the_end_of_the_validated_chain",
                "no_ticket_is_offered_before_the_chain_is_valid",
            ),
        },
    ),
    Edge(
        "No IPv6, and addresses of it first",
        "the next address is tried at once; with none left, `ConnectError` in the system's words",
        {DIALLING: ("a_family_that_the_kernel_does_not_have", "only_a_family_that_the_kernel_does_not_have")},
    ),
    Edge(
        "Addresses that drop SYNs",
        "the next is tried after 250 ms beside the first; one deadline covers all, and 32 are tried at a time",
        {
            DIALLING: (
                "an_address_that_drops_syns_costs_a_quarter_of_a_second",
                "many_addresses_that_drop_syns",
                "the_losers_are_closed_when_one_has_won",
                "a_deadline_in_each_phase",
            )
        },
    ),
    Edge(
        "Addresses that refuse",
        "the next is tried at once; `ConnectError` names each reason once",
        {DIALLING: ("an_address_that_refuses_costs_nothing", "many_addresses_that_all_refuse")},
    ),
    Edge(
        "A lookup that hangs",
        "`ConnectTimeoutError` at the deadline; the thread is left behind, 32 of them at the most; addresses are "
        "dialled meanwhile, and the process can end",
        {
            DIALLING: (
                "a_lookup_that_hangs",
                "lookups_that_hang_are_bounded",
                "an_address_needs_no_thread",
                "a_lookup_that_hangs_does_not_hold_up_the_end_of_the_process",
            )
        },
    ),
    Edge(
        "A lookup that fails, or returns what is no address (`getaddrinfo` replaced by a package)",
        "`ConnectError`, with what was raised as its cause; an odd address is one that fails, and the next is tried",
        {
            DIALLING: ("a_lookup_that_fails", "a_name_without_an_address"),
            CALLS: ("an_odd_address_is_one_that_fails", "a_lookup_that_returns_nothing_of_use"),
        },
    ),
    Edge(
        "No thread can be started for a lookup",
        "`ConnectError` (EAGAIN)",
        {DIALLING: ("no_thread_for_a_lookup",)},
    ),
    Edge(
        "Few descriptors (`RLIMIT_NOFILE`)",
        {
            "blocking": "one is enough, two more where threads share the client; else `ConnectError` (EMFILE)",
            "asyncio uvloop trio": "one is enough, beside the loop's own; else `ConnectError` (EMFILE)",
        },
        {
            DIALLING: (
                "one_descriptor_is_enough_and_none_is_an_error_of_ours",
                "no_descriptors_for_a_client_that_threads_share",
            )
        },
    ),
    Edge(
        "`connect()` fails: a firewall (EPERM), no ports, no memory, no network",
        "`ConnectError` at once, in the system's words",
        {CALLS: ("no_way_to_connect", "no_way_to_ask_how_connecting_went")},
    ),
    Edge(
        "`send()` or `recv()` fails: a firewall, a network that goes away (ENETDOWN, EHOSTUNREACH), no buffers",
        {
            "blocking asyncio trio": "at once, in the system's words: `HandshakeError` (`failure` end-of-stream), or "
            "`ConnectionLostError` (`cause` transport-failed, safe to resend)",
            "uvloop": "the same by its own calls, which cannot be made to fail in a test",
        },
        {CALLS: ("amid_the_handshake", "on_an_open_connection", "a_socket_that_cannot_be_shut_down")},
    ),
    Edge(
        "`setsockopt()` fails (EINVAL on macOS, where the peer has reset TCP)",
        {
            "blocking trio": "nothing: what comes next tells",
            "asyncio uvloop": "nothing, where the option is ours; `ConnectError` where it is the loop's own",
        },
        {CALLS: ("options_are_wishes",)},
    ),
    Edge(
        "The system cannot watch a socket (ENOMEM, ENOSPC of epoll)",
        {
            "blocking": "the connection is looked at until its deadline; while dialling, `ConnectError`",
            "trio": "`HandshakeError`, `ConnectionLostError` at once; while dialling, `ConnectError`",
            "asyncio uvloop": "the loop logs it; the deadline counts",
        },
        {CALLS: ("a_socket_that_cannot_be_watched", "an_attempt_that_cannot_be_watched")},
    ),
    Edge(
        "Descriptors are closed beneath a client (`os.closerange()` in a daemon)",
        {
            "blocking trio": "`ConnectionLostError` (EBADF), and nothing is raised by closing; what wakes threads "
            "is made anew",
            "asyncio uvloop": "the loop's own are closed too, and the loop fails",
        },
        {CALLS: ("descriptors_that_are_closed_beneath_a_client", "wakers_that_are_closed_beneath_a_client")},
    ),
    Edge(
        "No `select.poll` (Windows, eventlet)",
        {"blocking": "`select.select` takes its place", "asyncio uvloop trio": "not used"},
        {DIALLING: ("without_poll",)},
    ),
    Edge(
        "Ctrl-C, or a signal's handler that raises",
        {
            "blocking": "comes out as it is; while a thread waits, its query is given up; while it works on TLS, the "
            "connection ends, and everybody hears of it",
            "asyncio uvloop": "the loop cancels its main task: see `asyncio.Runner`; cancelled dialling leaves nothing",
            "trio": "a plain `KeyboardInterrupt`, in no exception group",
        },
        {
            INTERRUPTIONS: ("interruptions_hang_nobody", "ctrl_c_comes_out_of_trio_as_itself"),
            PROCESSES: ("a_signals_handler_raises_in_each_wait",),
            DIALLING: ("ctrl_c_while_dialling", "dialling_cancelled_at_each_await"),
        },
    ),
    Edge(
        "Another event loop uses a client",
        {
            "blocking": "there is none: threads may share it",
            "asyncio uvloop trio": "`LocalProtocolError`, and nothing else changes",
        },
        {INTERRUPTIONS: ("a_client_on_another_loop_is_refused_at_the_door",)},
    ),
    Edge(
        "A client is dropped open",
        "`ResourceWarning`",
        {INTERRUPTIONS: ("a_client_that_is_dropped_open_says_so",)},
    ),
    Edge(
        "The process ends with clients open, with threads that ask, or with `atexit` functions that do",
        "it ends at once, with its own exit status and nothing on standard error but a `ResourceWarning`",
        {PROCESSES: ("a_process_that_ends_with_clients_open",)},
    ),
    Edge(
        "The peer does not read, and the kernel takes no more",
        "each query's fate comes by its deadline; closing is bounded",
        {
            INTERRUPTIONS: (
                "a_server_that_stops_reading_delays_no_fate",
                "a_block_that_is_left_by_an_exception_waits_for_nothing",
            ),
            FLOODS: (
                "reading_stops_while_replies_are_not_taken",
                "queries_that_are_not_taken_do_not_stop_reading",
                "a_handshake_that_is_not_taken_does_not_stop_reading",
            ),
        },
    ),
    Edge(
        "A flood of TLS records without data: changes of keys, tickets, warnings, wishes to renegotiate",
        "the connection ends as a fault of the peer's TLS; what is rightly sent is no flood, however it is cut",
        {
            FLOODS: (
                "a_flood_ends_the_connection",
                "only_a_row_without_data_is_a_flood",
                "changes_of_keys_between_answers_are_welcome",
                "the_longest_record_may_come_in_single_octets",
            )
        },
    ),
    Edge(
        "A server's `accept()` fails (EMFILE, ENOMEM), gives no address (macOS), or cannot be waited for",
        "what is one client's costs that one alone; otherwise the server waits 0.1 s, says so in the log, and goes on",
        {LAST: ("accept_may_raise_whatever_it_likes", "a_loop_that_cannot_watch_is_asked_again")},
    ),
    Edge(
        "Any other step fails by which a server takes in a client: socket options, the TLS session, a thread, a task",
        "that client sees the end of TCP, one line of the log says why, and its place is free",
        {LAST: ("each_step_of_taking_in_a_client_may_fail",)},
    ),
    Edge(
        "A handler raises, be it `SystemExit` or `CancelledError`",
        {
            "blocking": "SERVFAIL to that query, and an error in the log",
            "asyncio uvloop trio": "the same; but `KeyboardInterrupt` in the main thread is Ctrl-C, and goes on up",
        },
        {
            LAST: (
                "a_handler_may_raise_anything",
                "a_handler_in_its_connections_thread_may_raise_anything",
                "a_handler_that_is_awaited_may_raise_anything",
                "no_thread_for_a_worker",
            )
        },
    ),
    Edge(
        "A handler never returns, and the server is closed, by a signal's handler too, or the process ends",
        {
            "blocking": "it ends in time: every thread is a daemon",
            "asyncio uvloop": "the handler is cancelled; one that ignores it is left behind a second later",
            "trio": "the handler is cancelled; one that shields itself is waited for",
        },
        {
            CLOSE: (
                "a_handler_that_never_returns_keeps_no_process",
                "a_handler_that_ignores_its_cancellation",
                "max_duration_ends_a_connection_whose_handler_does_not",
            )
        },
    ),
    Edge(
        "A server's client vanishes without a word",
        "TCP keepalive ends the connection after two minutes, also while a handler works",
        {LAST: ("a_client_that_vanishes_is_noticed",)},
    ),
    Edge(
        "Clients connect to a server and say nothing, more of them than it has places",
        "the oldest unfinished handshake makes room for each newcomer",
        {LAST: ("the_oldest_unfinished_handshake_makes_room", "no_newcomer_is_lost_in_a_crowd")},
    ),
    Edge(
        "The command: a full disk, closed streams, a reader that has gone, Ctrl-C",
        {
            "blocking": "the right exit code, no traceback, nothing on the wrong stream",
            "asyncio uvloop trio": "not used by the command",
        },
        {
            STREAMS: (
                "closed_streams_change_nothing_else",
                "full_streams",
                "readers_that_have_gone",
                "interrupted_at_any_moment",
            )
        },
    ),
)

ELSEWHERE = {
    INTERRUPTIONS: {
        "a_server_that_ends_handshakes_with_an_offered_session_is_dialled_without",
        "a_client_on_asyncio_can_be_awaited_and_kept",
    },
    DIALLING: {"families_take_turns"},
}
"Tests that are not of the platform."

HEAD = """
## What the platform does

Each row is held by the tests that it names, whose modules stand under `tests/`. Where a row names no backend, all four
do the same.

| Situation | What becomes of it | Tests |
|---|---|---|
"""


def section() -> str:
    """The part of docs/faults.md behind the first table."""
    return HEAD + "".join(map(row, EDGES))


def row(edge: Edge) -> str:
    """One line of the table."""
    if isinstance(edge.outcome, str):
        words = edge.outcome
    else:
        words = "<br>".join(f"{', '.join(names.split())}: {outcome}" for names, outcome in edge.outcome.items())
    tests = (f"`{module}`: {', '.join(f'`{name}`' for name in names)}" for module, names in edge.tests.items())
    return f"| {edge.situation} | {words} | {'<br>'.join(tests)} |\n"


def tests_of(module: str) -> set[str]:
    """The names of a module's tests, without ``test_``."""
    tree = ast.parse((TESTS / module).read_text("utf-8"))
    functions = (node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name.removeprefix("test_") for name in functions if name.startswith("test_")}


def named() -> Iterator[tuple[str, str]]:
    """Each test that a row names, by module."""
    for edge in EDGES:
        for module, names in edge.tests.items():
            for name in names:
                yield module, name
