"""A DNS over TLS server on loopback for anybody's tests, which answers as it is told and misbehaves on request.

``identity`` certificates made on the spot
``answers``  what it knows
``faults``   what it does wrong
``loopback`` 127.0.0.1 or ::1
``mistakes`` :class:`SettingError`
``server``   the server, :class:`LoopbackServer`

:mod:`dot_io.pytest_plugin` makes a fixture of it.  Needs the extra ``pytest`` (dnspython and trustme).
"""

from .._extras import needs_extra

with needs_extra("dot_io.testing", "pytest"):
    from .answers import Answers as Answers
    from .faults import HandshakeFault as HandshakeFault
    from .faults import QueryFault as QueryFault
    from .identity import Authority as Authority
    from .identity import Identity as Identity
    from .mistakes import SettingError as SettingError
    from .server import LoopbackServer as LoopbackServer
    from .server import ReceivedQuery as ReceivedQuery

__all__ = [
    "Answers",
    "Authority",
    "HandshakeFault",
    "Identity",
    "LoopbackServer",
    "QueryFault",
    "ReceivedQuery",
    "SettingError",
]
