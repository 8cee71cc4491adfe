"""The rules of getaddrinfo(3), without I/O of their own: what is asked for a name, and what comes of the answers.

The system's ``getaddrinfo`` stays in use wherever the text is an address: it knows ports, services, kinds of sockets,
scope ids and its own error codes best.  Only where it says that the text is no address, a name is looked for: in the
table of hosts, among the names that never leave the machine, and then by questions to a stub resolver.  Each address
that is found goes through the system's function again.

A :class:`Lookup` is one call.  Whoever drives it asks its :attr:`~Lookup.questions`, all together, and hands in what
came of them, until there are none left.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

from dot_proto import DoTError, LocalProtocolError, ResolverConfiguration, make_query
from dot_proto._message import NOERROR, NXDOMAIN
from dot_proto.arguments import collected, shown

from .._addresses import FAMILIES, Records, records_in
from ..errors import NoAddressError
from ._hosts import HostsFile
from ._order import Routes

AddressInfo = Any
"Family, kind, protocol, canonical name, and the address of a socket; each library annotates it in its own way."

Host = str | bytes | bytearray | None
"As ``getaddrinfo`` takes it."

REFUSED: Final = 5
"RCODE (RFC 1035, section 4.1.1)."

NUMERICHOST, CANONNAME, V4MAPPED, ALL, ADDRCONFIG = (
    int(getattr(socket, f"AI_{name}", 0)) for name in ("NUMERICHOST", "CANONNAME", "V4MAPPED", "ALL", "ADDRCONFIG")
)
"Some systems lack the last three.  As plain numbers: to combine members of enum.IntFlag takes 0.3 us."

NO_NAME: Final = socket.EAI_NONAME
NO_DATA: Final = getattr(socket, "EAI_NODATA", NO_NAME)
AGAIN: Final = socket.EAI_AGAIN
FAIL: Final = socket.EAI_FAIL

_WORDS: Final = {
    NO_DATA: "No address associated with hostname",
    NO_NAME: "Name or service not known",
    AGAIN: "Temporary failure in name resolution",
    FAIL: "Non-recoverable failure in name resolution",
}
"As the C library has them."

LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

NEVER_ASKED: Final = ("invalid", "onion")
"Top-level names that do not exist (RFC 6761, section 6.4), or not in DNS (RFC 7686, section 2)."

MAX_NAME_LENGTH: Final = 253
"Octets of a domain name in text, without the final dot (RFC 1035, section 2.3.4: 255 on the wire)."


PATIENT: Final = ResolverConfiguration(max_waiting=20_000)
"Of the resolvers that programs do not see: whoever looks names up waits, as with the C library."


def failure(code: int, cause: BaseException | None = None) -> socket.gaierror:
    """A name could not be looked up, in the system's own words; ``cause`` is what we know better."""
    error = socket.gaierror(code, _WORDS[code])
    error.__cause__ = cause
    return error


def numeric(
    host: str | bytes | None, port: Any, family: int, kind: int, protocol: int, flags: int
) -> list[AddressInfo]:
    """The system's own ``getaddrinfo``, for an address: below whatever has taken the place of ``socket``'s."""
    found = _socket.getaddrinfo(host, port, family, kind, protocol, flags | NUMERICHOST)
    return [
        (_member(socket.AddressFamily, one), _member(socket.SocketKind, two), three, four, five)
        for one, two, three, four, five in found
    ]


class Rules:
    """How names are looked up, for any number of calls.

    ``search`` are suffixes that are tried behind a name: of one label at once, of more where the name as it stands has
    no address.  An empty one asks a name of one label as it stands; otherwise none leaves the machine.  ``asks_local``:
    names below ``local``, which belong to multicast DNS (RFC 6762, section 3), are asked too; otherwise the system is.
    """

    def __init__(
        self,
        *,
        search: Iterable[str] = (),
        asks_local: bool = False,
        hosts: HostsFile | None = None,
        routes: Routes | None = None,
    ) -> None:
        self.search: Final = tuple(_suffix(one) for one in collected("search", search, str, "a list of domain names"))
        self.asks_local: Final = asks_local
        self.hosts: Final = hosts or HostsFile()
        self.routes: Final = routes or Routes()

    def lookup(self, host: Host, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Lookup:
        """One call of ``getaddrinfo``, with its own arguments.

        Raises :class:`socket.gaierror` for what is wrong before anything has to be asked.
        """
        text = _octets(host)
        if isinstance(text, bytes) and b"\0" in text:
            raise failure(NO_NAME)
        try:
            return Lookup(self, "", port, (family, type, proto, flags), numeric(text, port, family, type, proto, flags))
        except socket.gaierror as error:
            if error.errno != NO_NAME or text is None or flags & NUMERICHOST:
                raise
        return Lookup(self, _checked(text), port, (family, type, proto, flags), None)


class Lookup:
    """One call; see the module's text."""

    def __init__(
        self,
        rules: Rules,
        name: str,
        port: Any,
        wanted: tuple[int, int, int, int],
        result: list[AddressInfo] | None,
    ) -> None:
        self._rules = rules
        self._name = name.removesuffix(".")
        self._port = port
        self._wanted = wanted
        self._result = result
        self._failure: socket.gaierror | None = None
        self._candidates: list[str] = []
        self._types: list[str] = []
        self.questions: tuple[bytes, ...] = ()
        "Queries to be asked now, together; none: :meth:`result` is known."
        self.asks_system: bool = False
        "Whether the name is the system's to look up, as :meth:`ask_system` does; that takes time."
        if result is None:
            self._begin(is_absolute=name.endswith("."))

    def answer(self, responses: Sequence[bytes | DoTError]) -> None:
        """What came of the questions, in their order; there may be others then."""
        found: list[Records] = []
        error: DoTError | None = None
        for rdtype, response in zip(self._types, responses, strict=True):
            try:
                if isinstance(response, DoTError):
                    raise response
                found.append(records_in(response, rdtype))
            except DoTError as reason:
                error = reason
        self.questions = ()
        addresses = self._mapped([address for records in found for address in records.values])
        if addresses:
            self._finish(addresses, next(records.name for records in found if records.values))
            return
        code = max((records.rcode for records in found), default=NOERROR)
        because = error or NoAddressError(f"the response has RCODE {code}, and no address", rcode=code)
        had_no_data = self._failure is not None and self._failure.errno == NO_DATA
        failed = failure(_code(found, error), because)
        if not (had_no_data and failed.errno == NO_NAME):  # of all that were tried, one name exists
            self._failure = failed
        if failed.errno in (NO_NAME, NO_DATA):
            self._ask_next()

    def ask_system(self, getaddrinfo: Callable[..., Any]) -> None:
        """Have ``getaddrinfo``, the one that a hook stands in for, look the name up; raises what that raises."""
        self.asks_system = False
        self._result = getaddrinfo(self._name, self._port, *self._wanted)

    def result(self) -> list[AddressInfo]:
        """What ``getaddrinfo`` returns; raises :class:`socket.gaierror`."""
        if self._result is not None:
            return self._result
        assert self._failure is not None, "questions come first"
        raise self._failure

    # Private methods.

    def _begin(self, *, is_absolute: bool) -> None:
        family, _, _, flags = self._wanted
        families = [one for one in LOOPBACK if family in (socket.AF_UNSPEC, one)]
        if self._is_known(families):
            return
        name, rules = self._name, self._rules
        top = name.rpartition(".")[2].lower()
        if not families or top in NEVER_ASKED or top.isdecimal():  # no top-level name is a number (RFC 1123, 2.1)
            self._failure = failure(NO_NAME)
        elif top == "localhost":
            self._finish([LOOPBACK[one] for one in reversed(families)], name)
        elif top == "local" and not rules.asks_local:
            self.asks_system = True
        else:
            self._types = self._types_for(families, flags)
            below = [f"{name}.{suffix}" if suffix else name for suffix in rules.search]
            if is_absolute:
                below = [name]
            elif "." in name:
                below.insert(0, name)
            self._candidates = [one for one in dict.fromkeys(below) if len(one) <= MAX_NAME_LENGTH]
            self._failure = failure(NO_NAME)
            if self._types:
                self._ask_next()

    def _is_known(self, families: list[socket.AddressFamily]) -> bool:
        """Whether the table of hosts has it."""
        wanted = [*families, socket.AF_INET] if self._is_mapped else families
        entries = self._rules.hosts.find(self._name, wanted)
        if entries:
            self._finish(self._mapped([address for address, _ in entries]), entries[0][1])
        return bool(entries)

    def _types_for(self, families: list[socket.AddressFamily], flags: int) -> list[str]:
        """What is asked: A and AAAA, if nothing speaks against one of them."""
        wanted = set(families)
        if flags & ADDRCONFIG:
            routed = self._rules.routes.families()
            if len(routed) == 1:  # else there is nothing to choose, and loopback may be all that there is
                wanted &= routed
        types = [rdtype for rdtype, family in FAMILIES.items() if family in wanted]
        if types == ["AAAA"] and self._is_mapped:
            types.insert(0, "A")
        return types

    @property
    def _is_mapped(self) -> bool:
        """Whether IPv4 addresses are wanted as IPv6 ones (RFC 3493, section 6.1)."""
        family, _, _, flags = self._wanted
        return family == socket.AF_INET6 and bool(flags & V4MAPPED)

    def _ask_next(self) -> None:
        if self._candidates:
            name = self._candidates.pop(0)
            self.questions = tuple(make_query(name, rdtype) for rdtype in self._types)

    def _mapped(self, addresses: list[str]) -> list[str]:
        """IPv4 addresses as IPv6 ones, where that is wanted: where there are no others, or with AI_ALL."""
        if not self._is_mapped:
            return addresses
        wide = [address for address in addresses if ":" in address]
        mapped = [f"::ffff:{address}" for address in addresses if ":" not in address]
        return [*wide, *mapped] if self._wanted[3] & ALL or not wide else wide

    def _finish(self, addresses: list[str], canonical: str) -> None:
        family, kind, protocol, flags = self._wanted
        others = flags & ~(CANONNAME | ADDRCONFIG | V4MAPPED | ALL)
        infos: list[AddressInfo] = []
        for address in self._rules.routes.ordered(addresses):
            infos += numeric(address, self._port, family, kind, protocol, others)
        if flags & CANONNAME:
            infos[0] = (*infos[0][:3], canonical, infos[0][4])
        self._result = infos


def _code(found: list[Records], error: DoTError | None) -> int:
    """The error of a name without addresses.  What may be different next time goes before what will not."""
    codes = {records.rcode for records in found}
    if NXDOMAIN in codes:  # of whatever type (RFC 8020)
        return NO_NAME
    if error is not None or codes - {NOERROR, REFUSED}:
        return AGAIN
    return FAIL if REFUSED in codes else NO_DATA


def _octets(host: Host) -> bytes | None:
    """A host in ASCII; raises :class:`socket.gaierror` for a name that has no such form."""
    if not isinstance(host, str):
        if host is None or isinstance(host, bytes | bytearray):
            return host if host is None else bytes(host)
        raise TypeError("getaddrinfo() argument 1 must be string or None")
    if host.isascii():
        return host.encode("ascii")
    try:
        from idna import IDNAError, encode
    except ImportError:
        hint = LocalProtocolError("an internationalised name needs the package idna, or its A-label form (xn--...)")
        raise failure(NO_NAME, hint) from hint
    try:
        return encode(host, uts46=True)
    except IDNAError as error:
        raise failure(NO_NAME, error) from error


def _checked(text: bytes) -> str:
    """A name that can be asked for; raises :class:`socket.gaierror` for any other."""
    name = text.decode("ascii", "replace")
    labels = name.removesuffix(".").split(".")
    good = len(name.removesuffix(".")) <= MAX_NAME_LENGTH and all(1 <= len(label) <= 63 for label in labels)
    if not good or not all(label.replace("-", "").replace("_", "a").isalnum() and label.isascii() for label in labels):
        raise failure(NO_NAME)
    return name


def _suffix(text: str) -> str:
    """A search domain without its final dot; raises :class:`~dot_proto.LocalProtocolError`."""
    if text in ("", "."):
        return ""
    try:
        return _checked(text.encode("ascii")).removesuffix(".")
    except (socket.gaierror, UnicodeEncodeError):
        raise LocalProtocolError(f"search must be a list of domain names, but {shown(text)} is in it") from None


@cache
def _member(kind: Any, value: int) -> Any:
    """As the module ``socket`` does it: a number that has no name stays a number."""
    try:
        return kind(value)
    except ValueError:
        return value
