"""A query as it leaves, where the short way (``_plain``) does not do: signed, with options or records of its own."""

from __future__ import annotations

from ._edns import Additions, splice
from ._message import OPTION_KEEPALIVE, oddity, walk
from .errors import MessageError


class Prepared:
    """What leaves, and what is to be remembered of it."""

    __slots__ = ("behind_id", "has_keepalive", "own_id", "question_end")

    def __init__(self, question_end: int, behind_id: bytes, has_keepalive: bool, own_id: int) -> None:
        self.question_end = question_end
        "Offset behind the question section."
        self.behind_id = behind_id
        "The octets behind the id."
        self.has_keepalive = has_keepalive
        "Whether they ask for the server's idle timeout (RFC 7828, section 3.2.1)."
        self.own_id = own_id
        "The id under which it must leave; -1: under any."


def prepare(message: bytes, added: Additions) -> Prepared:
    """Add the options; raises :class:`~dot_proto.MessageError` for a message that cannot be walked."""
    layout = walk(message)
    problem = layout.problem or oddity(message, layout)
    if problem is not None:
        raise MessageError(f"the query is malformed: {problem}")
    prepared = splice(message, layout, added) if added.codes else message
    has_option = layout.option(OPTION_KEEPALIVE) is not None
    has_keepalive = has_option or (OPTION_KEEPALIVE in added.codes and prepared is not message)
    own_id = message[0] << 8 | message[1] if layout.has_sig0 else -1
    return Prepared(layout.question_end, prepared[2:], has_keepalive, own_id)
