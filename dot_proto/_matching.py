"""Message ids, queries that await an answer, and whether a message is that answer.

RFC 7766, sections 6.2.1 and 7; RFC 5452, section 9.  Ids are drawn at random from the whole range by an injected
source.  A query that was given up keeps its id: its answer may still come, and must not be taken for the
answer to another query.

Nearly always the id that is drawn is free, or one of the next few.  Where it is not, the table is crowded, and to find
a free id by trying could take all of them for each query.  From then on the free ids of the connection are kept in a
list, from which one is taken at random: the same work however many are taken.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from ._message import HEADER, QR, QUERY, is_error
from .arguments import wrong
from .errors import LocalProtocolError
from .events import DiscardReason

IDS: Final = 65_536
"How many message ids there are (RFC 1035, section 4.1.1)."

_DRAWN: Final = struct.Struct("!256H")
"Ids taken from the source of randomness at a time: one call for many queries."

_TRIES: Final = 32
"Ids that are tried, one behind the other, before the table is taken to be crowded; with half of them taken, 2 will do."

START: Final = struct.Struct("!2sI")
"Id, as it stands; flags and question count as one number (RFC 1035, section 4.1.1)."

RESPONSE: Final = 0x8000_0000
"QR in that number."

COMPARED: Final = 0xF800_FFFF
"The bits of QR, opcode and question count in it."


class Query:
    """A query on its way, from ``send_query`` to its fate."""

    __slots__ = ("asked_at", "caller_id", "deadline", "expected", "handle", "has_keepalive", "question")

    def __init__(
        self, caller_id: bytes, expected: int, question: bytes, now: float, deadline: float, has_keepalive: bool
    ) -> None:
        self.handle = 0
        "A serial number, and in its last 16 bits the id on the wire; set by :meth:`Outstanding.add`."
        self.caller_id = caller_id
        "The id under which the caller asked, in octets."
        self.expected = expected
        "What the response must have in the bits of :data:`COMPARED`."
        self.question = question
        "The question section."
        self.asked_at = now
        self.deadline = deadline
        self.has_keepalive = has_keepalive
        "Whether it asked for the server's idle timeout (RFC 7828)."

    @property
    def wire_id(self) -> int:
        """The id under which it goes out."""
        return self.handle & 0xFFFF

    @property
    def opcode(self) -> int:
        """The opcode, 0 to 15."""
        return self.expected >> 27 & 15

    @property
    def question_count(self) -> int:
        """0 or 1."""
        return self.expected & 0xFFFF


class Exchange(Query):
    """A query that several messages answer (RFC 5936, section 2.2)."""

    __slots__ = ("has_answers", "timeout")

    def __init__(
        self, caller_id: bytes, expected: int, question: bytes, now: float, deadline: float, has_keepalive: bool
    ) -> None:
        super().__init__(caller_id, expected, question, now, deadline, has_keepalive)
        self.timeout = deadline - now
        "Seconds for each message."
        self.has_answers = False
        "Whether the first message has come."


class Outstanding:
    """The queries of one connection by wire id: pending ones, and abandoned ones whose ids stay taken."""

    __slots__ = ("_draw", "_drawn", "_earliest", "_queue", "_queued_below", "abandoned", "count", "free", "pending")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.pending: dict[int, Query] = {}
        "Queries that have no fate yet, in the order in which they were asked."
        self.abandoned: dict[int, Query] = {}
        "Queries timed out or cancelled after they had been sent."
        self.free: list[int] | None = None
        """All ids that are free, in any order, once the table has been crowded: whoever takes a query out of the tables
        for good appends its id.  ``None`` before that."""
        self.count = 0
        "How many queries were ever added."
        self._draw = entropy
        self._drawn: list[int] = []
        self._earliest = math.inf
        # Deadlines and handles in a heap: of the queries below this handle, and of some that are pending no more.
        self._queue: list[tuple[float, int]] = []
        self._queued_below = 0

    def __len__(self) -> int:
        return len(self.pending) + len(self.abandoned)

    def add(self, query: Query) -> int:
        """Register a query under a free id, which is returned; call only while fewer than 65536 are taken."""
        pending = self.pending
        wire_id = self._drawn.pop() if self._drawn else self._draw_id()
        if wire_id in pending or wire_id in self.abandoned:
            wire_id = self._next_free(wire_id)
        # The handle holds the id, so that finding a query by its handle needs no second table.
        query.handle = self.count << 16 | wire_id
        self.count += 1
        pending[wire_id] = query
        if query.deadline < self._earliest:
            self._earliest = query.deadline
        return wire_id

    def add_under(self, query: Query, wire_id: int) -> int:
        """Register a query under this id, which :meth:`is_taken` must have said is free; returns it."""
        if self.free is not None:
            self.free.remove(wire_id)
        drawn, self._drawn = self._drawn, [wire_id]
        self.add(query)
        self._drawn = drawn
        return wire_id

    def is_taken(self, wire_id: int) -> bool:
        """Whether a query in flight has this id."""
        return wire_id in self.pending or wire_id in self.abandoned

    def release(self, query: Query) -> None:
        """A query that is over: its id is free, whether it was pending or abandoned."""
        wire_id = query.wire_id
        self.pending.pop(wire_id, None)
        self.abandoned.pop(wire_id, None)
        if self.free is not None:
            self.free.append(wire_id)

    def clear(self) -> None:
        """The connection has ended: nothing is kept but the count."""
        self.pending.clear()
        self.abandoned.clear()
        self._queue.clear()
        self._drawn, self.free = [], None

    def find(self, handle: int) -> Query | None:
        """The pending query with this handle."""
        query = self.pending.get(handle & 0xFFFF)
        return query if query is not None and query.handle == handle else None

    def next_handle(self) -> int:
        """A number above every handle issued so far, and not above any later one."""
        return self.count << 16

    def was_issued(self, handle: int) -> bool:
        """Whether a handle can ever have been returned by :meth:`add`."""
        return 0 <= handle >> 16 < self.count

    def overdue_at(self, count: int) -> float:
        """When so many queries that were given up will be past their time; infinity while fewer were given up.

        An id stays taken until its answer comes.  A server that silently drops some queries, and answers the others,
        would take one id after the other for good, until the connection is of no use.  So a connection on which half of
        what may be in flight is unanswered past its time takes no new queries, and ends when those that are pending
        have their fates.
        """
        if len(self.abandoned) < count:
            return math.inf
        return sorted(query.deadline for query in self.abandoned.values())[count - 1]

    def earliest_deadline(self) -> float:
        """A time no later than the earliest deadline of a pending query; infinity where none is pending.

        Kept as a lower bound: answers do not search for the next deadline, only :meth:`expire` does.
        """
        return self._earliest if self.pending else math.inf

    def expire(self, now: float) -> list[Query]:
        """The pending queries whose deadline has come, earliest first; they are pending no more."""
        if self._earliest > now:
            return []
        queue, due = self._queue, list[Query]()
        self._enqueue()
        while queue and (queue[0][0] <= now or self._is_stale(queue[0])):
            deadline, handle = heappop(queue)
            query = self.find(handle)
            if query is None:
                continue
            if query.deadline != deadline:  # a message of several has renewed it
                heappush(queue, (query.deadline, handle))
            else:
                del self.pending[query.wire_id]
                due.append(query)
        self._earliest = queue[0][0] if queue else math.inf
        return due

    def _enqueue(self) -> None:
        """Queue what was asked since the last time; the pending queries are in the order in which they were asked.

        Only here, where a deadline has come: the deadline of a query that is answered in time costs nothing.
        """
        queue = self._queue
        if len(queue) > 2 * len(self.pending) + 64:  # most were answered, and their deadlines may be far
            queue.clear()
            self._queued_below = 0
        for query in reversed(self.pending.values()):
            if query.handle < self._queued_below:
                break
            heappush(queue, (query.deadline, query.handle))
        self._queued_below = self.next_handle()

    def _is_stale(self, entry: tuple[float, int]) -> bool:
        query = self.find(entry[1])
        return query is None or query.deadline != entry[0]

    def _draw_id(self) -> int:
        if self.free is not None:
            return self._take(self.free)
        self._drawn = list(reversed(_DRAWN.unpack(self._random(_DRAWN.size))))
        return self._drawn.pop()

    def _next_free(self, wire_id: int) -> int:
        """A free id near this one, which is taken; or any, where there is none near it."""
        for _ in range(_TRIES):
            wire_id = (wire_id + 1) % IDS
            if not self.is_taken(wire_id):
                return wire_id
        self._drawn = []
        free = [each for each in range(IDS) if each not in self.pending and each not in self.abandoned]
        taken = self._take(free)
        self.free = free
        return taken

    def _take(self, free: list[int]) -> int:
        """One of them, any with the same likelihood; it is in the list no more."""
        # 32 random bits, so that no id is more than a hundred-thousandth likelier than another.
        index = int.from_bytes(self._random(4), "big") * len(free) >> 32
        last = free.pop()
        if index == len(free):
            return last
        taken, free[index] = free[index], last
        return taken

    def _random(self, size: int) -> bytes:
        octets = self._draw(size)
        if not isinstance(octets, bytes):
            raise wrong("what entropy returns", f"{size} octets (bytes)", octets)
        if len(octets) != size:
            raise LocalProtocolError(f"entropy returned {len(octets)} octets where {size} were asked for")
        return octets


def mismatch(query: Query, message: bytes) -> DiscardReason | None:
    """Why ``message``, which bears the query's id, is no answer to it; ``None``: it is one."""
    _, flags, questions, *_ = HEADER.unpack_from(message)
    if not flags & QR:
        return DiscardReason.NOT_A_RESPONSE
    if flags >> 11 & 15 != query.opcode:
        return DiscardReason.OPCODE_MISMATCH
    if questions == 0:
        return DiscardReason.QUESTION_MISSING if _needs_question(query, message) else None
    if questions != 1 or query.question_count != 1:
        return DiscardReason.QUESTION_MISMATCH
    return None if _same_question(query.question, message) else DiscardReason.QUESTION_MISMATCH


def _same_question(question: bytes, message: bytes) -> bool:
    """Compare as RFC 4343 says: without regard to ASCII case, and to ASCII case alone.

    ``bytes.lower`` is right for a name, whose length octets are below 64, but not for type and class: it would
    make HTTPS (65, "A") and type 97 ("a") the same.
    """
    end = 12 + len(question)
    theirs = message[12:end]
    return theirs[-4:] == question[-4:] and theirs[:-4].lower() == question[:-4].lower()


def _needs_question(query: Query, message: bytes) -> bool:
    """Whether a message is no answer to this query unless it repeats the question.

    RFC 7766, section 7: the question is compared where there is one.  Some servers send none, and inside TLS nobody but
    the server can have sent the message, so that the id decides.  Only the first message of several must have its
    question (RFC 5936, section 2.2.1), unless it is an error: those behind it may have none, and one of an earlier
    transfer, whose id is free again since the caller took it for over, must not be taken for the beginning of this.
    """
    is_unbegun = isinstance(query, Exchange) and not query.has_answers
    return is_unbegun and query.opcode == QUERY and query.question_count > 0 and not is_error(message)
