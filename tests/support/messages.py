"""The kit's messages and streams, and a clock that moves only when told to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dot_proto.testing.messages import AA as AA
from dot_proto.testing.messages import AAAA as AAAA
from dot_proto.testing.messages import ANOTHERS as ANOTHERS
from dot_proto.testing.messages import AXFR as AXFR
from dot_proto.testing.messages import CD as CD
from dot_proto.testing.messages import COOKIE as COOKIE
from dot_proto.testing.messages import DAU as DAU
from dot_proto.testing.messages import DO as DO
from dot_proto.testing.messages import ECS as ECS
from dot_proto.testing.messages import EDE as EDE
from dot_proto.testing.messages import ERROR as ERROR
from dot_proto.testing.messages import KEEPALIVE as KEEPALIVE
from dot_proto.testing.messages import NS as NS
from dot_proto.testing.messages import NSID as NSID
from dot_proto.testing.messages import OPT as OPT
from dot_proto.testing.messages import PADDING as PADDING
from dot_proto.testing.messages import QR as QR
from dot_proto.testing.messages import RA as RA
from dot_proto.testing.messages import RD as RD
from dot_proto.testing.messages import SIG as SIG
from dot_proto.testing.messages import SOA as SOA
from dot_proto.testing.messages import TC as TC
from dot_proto.testing.messages import TSIG as TSIG
from dot_proto.testing.messages import TXT as TXT
from dot_proto.testing.messages import A as A
from dot_proto.testing.messages import cut_at as cut_at
from dot_proto.testing.messages import message as message
from dot_proto.testing.messages import opt as opt
from dot_proto.testing.messages import option as option
from dot_proto.testing.messages import pieces as pieces
from dot_proto.testing.messages import query_of_length as query_of_length
from dot_proto.testing.messages import question_of as question_of
from dot_proto.testing.messages import record as record
from dot_proto.testing.messages import response_to as response_to
from dot_proto.testing.messages import stream_of as stream_of
from dot_proto.testing.messages import unframed as unframed


@dataclass
class Clock:
    """Seconds that pass only when told to; begins away from 0, so that a deadline never agrees by accident."""

    now: float = 1000.0

    def advance(self, seconds: float) -> float:
        """Let time pass; returns the new time."""
        self.now += seconds
        return self.now


def just_before(time: float) -> float:
    """The last point in time before ``time`` that a float can tell apart from it."""
    return math.nextafter(time, -math.inf)
