"""What Hypothesis calls when it is imported, through its entry point, so that ``from_type`` knows our types.

Its own guess, made from annotations, would be refused: a pin has 32 octets, a policy must authenticate somebody.
The strategies are imported when the first of them is asked for.
"""

from __future__ import annotations

from hypothesis import strategies as st

from ..authentication import AuthenticationPolicy
from ..configuration import ClientConfiguration, ServerConfiguration
from ..pins import Pin
from ..resolver.upstream import Upstream


def register() -> None:
    """Register strategies for :class:`~dot_proto.Pin`, policies, upstreams and configurations."""
    st.register_type_strategy(Pin, _pins)
    st.register_type_strategy(AuthenticationPolicy, _policies)
    st.register_type_strategy(Upstream, _upstreams)
    st.register_type_strategy(ClientConfiguration, _client_configurations)
    st.register_type_strategy(ServerConfiguration, _server_configurations)


def _pins(thing: type[Pin]) -> st.SearchStrategy[Pin]:
    from .strategies import pins

    return pins()


def _policies(thing: type[AuthenticationPolicy]) -> st.SearchStrategy[AuthenticationPolicy]:
    from .strategies import policies

    return policies()


def _upstreams(thing: type[Upstream]) -> st.SearchStrategy[Upstream]:
    from .strategies import upstreams

    return upstreams()


def _client_configurations(thing: type[ClientConfiguration]) -> st.SearchStrategy[ClientConfiguration]:
    from .strategies import client_configurations

    return client_configurations()


def _server_configurations(thing: type[ServerConfiguration]) -> st.SearchStrategy[ServerConfiguration]:
    from .strategies import server_configurations

    return server_configurations()
