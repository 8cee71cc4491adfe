"""Ctrl-C under trio at every moment: a plain KeyboardInterrupt comes out, soon, and nothing is left halfway.

trio tells of Ctrl-C in two ways: at once, between any two instructions of code that is not protected, or in the main
task, where that waits.  Both are gone through here, moment by moment, until a run has no such moment any more.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from itertools import count
from types import FrameType
from typing import Any

import pytest
import trio

import dot_io.trio
from conformance.identities import Identities
from conformance.test_interruptions import answering
from dot_io.trio.nursery import open_plain_nursery
from dot_proto import make_query
from support.peers import Caller, answer, name_in, scripted

QUERY = make_query("example.com")

GIVE_UP = 5.0
"Seconds after which a run that hangs has failed."

OURS = ("dot_io", "dot_proto", "contextlib.py")
"Parts of the names of files whose code runs for a caller: a package's own, and the machinery of its blocks."

Main = Callable[[], Awaitable[None]]


class AtTaskStep(trio.abc.Instrument):
    """Ctrl-C before the n-th step of any task: trio holds it back until its main task waits."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.count = 0

    @property
    def has_come(self) -> bool:
        return self.count >= self._at

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count == self._at:
            signal.raise_signal(signal.SIGINT)


class AtInstruction:
    """Ctrl-C at the n-th place in code of ours that is not protected, of those where Python looks for signals.

    These are the beginning of a function, and the return from one written in C.  Where a coroutine goes on after it
    has waited, Python does not look.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self.count = 0

    @property
    def has_come(self) -> bool:
        return self.count >= self._at

    @contextmanager
    def watching(self) -> Iterator[None]:
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "c_return") or not any(part in frame.f_code.co_filename for part in OURS):
            return
        if (event == "call" and goes_on(frame)) or trio.lowlevel.currently_ki_protected():
            return
        self.count += 1
        if self.count == self._at:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)


COROUTINES = 0x20 | 0x80 | 0x200
"CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR (inspect)."


def goes_on(frame: FrameType) -> bool:
    return bool(frame.f_code.co_flags & COROUTINES) and frame.f_lasti > 4


def at_each_step(main: Main) -> int:
    """Runs ``main`` with Ctrl-C at each step in turn; returns how many there were."""
    for at in count(1):
        instrument = AtTaskStep(at)
        if not comes_out_as_itself(main, instrument, [instrument]):
            return at - 1
    raise AssertionError


def at_each_instruction(main: Main) -> int:
    """Runs ``main`` with Ctrl-C at each such place in turn; returns how many there were."""
    for at in count(1):
        instruction = AtInstruction(at)

        async def watched(instruction: AtInstruction = instruction) -> None:
            with instruction.watching():
                await main()

        if not comes_out_as_itself(watched, instruction):
            return at - 1
    raise AssertionError


def comes_out_as_itself(main: Main, moment: AtTaskStep | AtInstruction, instruments: Sequence[AtTaskStep] = ()) -> bool:
    """Whether there was a Ctrl-C; if so, it has come out of ``trio.run`` plain, and before the run would hang."""

    async def bounded() -> None:
        with trio.fail_after(GIVE_UP):
            await main()

    try:
        trio.run(bounded, instruments=instruments)
    except KeyboardInterrupt:
        assert moment.has_come
        return True
    assert not moment.has_come, "Ctrl-C was lost"
    return False


NOTHING_OPENED = pytest.mark.filterwarnings("ignore:.*opened nothing:RuntimeWarning")
"For where Ctrl-C comes between the call and its block."


@pytest.fixture(name="ask")
def ask_fixture(identities: Identities) -> Iterator[Main]:
    """A program that connects, asks in every way, and closes."""

    async def ask() -> None:
        options: dict[str, Any] = {"port": server.port, "first_query": make_query("first.example")}
        async with dot_io.trio.connect("127.0.0.1", identities.policy, **options) as client:
            assert name_in(await client.first_response()) == "first"
            await client.query(QUERY)
            async with aclosing(client.query_many([QUERY] * 3, max_in_flight=2)) as fates:
                assert len([position async for position, _ in fates]) == 3
            await client.query(QUERY)

    def script(caller: Caller) -> None:
        with suppress(OSError, EOFError):
            answering(caller)

    with scripted(script, identities.certificate_file) as server:
        yield ask


def test_ctrl_c_at_each_step_of_a_client(ask: Main) -> None:
    """FR-49: while the main task connects, waits for answers, closes, and waits for the nursery of the connection."""
    assert at_each_step(ask) > 20


@NOTHING_OPENED
def test_ctrl_c_at_each_instruction_of_a_client(ask: Main) -> None:
    """FR-49: it never comes between two steps of an engine, which would be left halfway, and the program would hang."""
    at_each_instruction(ask)


@NOTHING_OPENED
def test_ctrl_c_at_each_moment_of_a_server(identities: Identities) -> None:
    """FR-49: while the main task opens, serves, and closes with a client connected."""

    async def serve() -> None:
        async with (
            dot_io.trio.serve(answer, identities.server, port=0) as server,
            dot_io.trio.connect(server.host, identities.policy, port=server.port) as client,
        ):
            await client.query(QUERY)
            await server.close()

    assert at_each_step(serve) > 20
    at_each_instruction(serve)


def test_ctrl_c_inside_a_handler(identities: Identities) -> None:
    """FR-49: a task of ours runs it, and the main task hears of Ctrl-C at once, whatever this client does."""

    async def interrupted(query: bytes, *_: object) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return answer(query)

    async def serve() -> None:
        async with (
            dot_io.trio.serve(interrupted, identities.server, port=0) as server,
            dot_io.trio.connect(server.host, identities.policy, port=server.port) as client,
        ):
            with trio.fail_after(1.0):
                await client.query(QUERY)

    with pytest.raises(KeyboardInterrupt):
        trio.run(serve)


def test_ctrl_c_while_a_host_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-49: one address is never heard of, another refuses; attempts are tasks, and end before the error is told."""

    async def until_connected(*_: object) -> None:
        await trio.sleep_forever()

    async def dial() -> None:
        with pytest.raises(dot_io.errors.ConnectError):
            async with dot_io.trio.connect("127.0.0.1", port=1, timeout=0.02):
                raise AssertionError

    monkeypatch.setattr("dot_io.trio.dial.start_connecting", lambda *_: (None, False))
    monkeypatch.setattr("dot_io.trio.dial._Attempts._until_connected", until_connected)
    assert at_each_step(dial) > 5
    at_each_instruction(dial)


@pytest.mark.parametrize("fails", [False, True], ids=["block ends", "block fails"])
def test_ctrl_c_while_a_nursery_waits_for_its_tasks(fails: bool) -> None:
    """FR-49: the one place where trio itself would put it into an exception group."""

    async def takes_its_time() -> None:
        with trio.CancelScope(shield=True):
            for _ in range(10):
                await trio.lowlevel.checkpoint()

    async def main() -> None:
        try:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(takes_its_time)
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert fails

    assert at_each_step(main) > 10
