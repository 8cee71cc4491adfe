"""What the resolvers that are awaited share: the addresses of a name, and of an upstream that has a name alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable

from dot_proto import DoTError
from dot_proto.resolver.events import FindAddresses
from dot_proto.resolver.upstream import Upstream

from ._addresses import AddressQueries
from ._client import CLOSE_TIMEOUT, MAX_IN_FLIGHT
from ._fate import Fate, outcome
from ._lookup import Address
from ._resolver import ResolverBase


class AwaitedResolver(ResolverBase):
    """The part of a resolver that awaits, whatever the loop is."""

    @abstractmethod
    def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> AsyncGenerator[tuple[int, Fate]]:
        """Ask all of ``messages``, and yield each one's fate."""

    @abstractmethod
    async def _ask_system(self, name: str, port: int, deadline: float) -> list[tuple[int, Address]]:
        """The addresses of an upstream's name, by the system."""

    @abstractmethod
    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order."""

    async def resolve(
        self, name: str, types: Iterable[str] = ("A", "AAAA"), *, timeout: float | None = None
    ) -> list[str]:
        """The addresses of a name, as texts: those of the first of ``types`` first.

        ``types`` are "A" and "AAAA"; both are asked at once, within ``timeout`` seconds.  Where one has addresses, a
        failure of the other does not count.  Raises what :meth:`query` raises;
        :class:`~dot_io.errors.NoAddressError`, which tells a name that does not exist from one without addresses;
        :class:`~dot_proto.MessageError` for a text that is no name, and for a response that cannot be read.
        """
        return (await self._resolve(name, types, timeout))[0]

    async def _resolve(
        self, name: str, types: Iterable[str] = ("A", "AAAA"), timeout: float | None = None
    ) -> tuple[list[str], float]:
        """The addresses, and the seconds that they may be kept."""
        queries = AddressQueries(name, types)
        fates = self.query_many(queries.messages, timeout=timeout)
        return queries.read({position: outcome(fate) async for position, fate in fates})

    async def _close_bootstraps(self) -> None:
        for bootstrap in self._bootstraps.values():
            await bootstrap.close(timeout=0.0)

    async def _look_up(self, action: FindAddresses) -> None:
        try:
            addresses, ttl = await self._addresses_of(action.upstream)
        except DoTError as error:
            self._found(action, (), 0.0, error)
        else:
            self._found(action, addresses, ttl, None)

    async def _addresses_of(self, upstream: Upstream) -> tuple[list[str], float]:
        name = upstream.name or ""
        if upstream.bootstrap != "system":
            return await self._bootstrap_of(upstream)._resolve(name)
        found = await self._ask_system(name, upstream.port, self._now() + self.configuration.open_timeout)
        return [str(address) for _, address in found], 0.0
