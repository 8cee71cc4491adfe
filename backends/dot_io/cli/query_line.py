"""The command line of ``dot-proto query``, read into queries.

dig's rule, without its exceptions: words before the first name hold for all names, and words after a name for that
name alone.  A file of ``-f`` has such a line on each line; the words of the command line go before it.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dns.rdataclass
import dns.rdatatype

from dot_proto.errors import LocalProtocolError

from ._errors import BatchFileError, UsageError
from ._options import Word
from .query_arguments import Display, Message, QueryArguments, Session
from .questions import TRANSFER, absolute, class_of, refuse_mistyped, reverse_name, type_of
from .servers import PORT, Server, one_of, parse_server
from .tables import QUERY

CONFIGURATION: Final = "DOT_PROTO_QUERY"
"The environment variable that names a file of words to be read first, where ``--config`` names none."

MAX_FILE: Final = 64 * 1024 * 1024
"Characters of a batch file that are read."

_TRANSFERS: Final = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)


def parse_query(words: Sequence[str]) -> list[QueryArguments]:
    """The queries of the words after ``dot-proto query``, in their order.

    Raises :class:`UsageError`, also for the lines of a batch file: all are read before any is asked.
    """
    parsed = QUERY.parse(words)
    common = _Part()
    _configure(_last(parsed, "config"), common)
    named = _read(parsed, common)
    batch = common.settings.pop("batch", None)
    if not named and batch is None:
        named = [common.root()]
    if any(part.servers for part in named) and (part := next((one for one in named if not one.servers), None)):
        raise UsageError(f"no server named for {part.name!r}: put @SERVER before the first name, where it is for all")
    queries = [query for part in named for query in part.queries()]
    if batch is not None:
        for number, line in enumerate(_lines(batch), 1):
            if line.strip() and line.lstrip()[0] not in "#;":
                queries += _of_line(line.split(), common, f"{batch}, line {number}")
    return queries


def _configure(file: str | None, common: _Part) -> None:
    """Read a file of words before all others: the one of ``--config``, or of the environment; there is no default."""
    where = f"--config {file}"
    if file is None:
        file = os.environ.get(CONFIGURATION)
        where = f"{CONFIGURATION}={file}"
    if not file:
        return
    try:
        with open(file, encoding="utf-8") as opened:
            lines = opened.read(MAX_FILE).splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: {getattr(error, 'strerror', None) or error}") from error
    words = [word for line in lines if not line.lstrip().startswith(("#", ";")) for word in line.split()]
    if _read(QUERY.parse(words), common):
        raise UsageError(f"{where}: such a file holds options and servers, and no names")


def _lines(file: str) -> list[str]:
    try:
        if file == "-":
            return sys.stdin.read(MAX_FILE).splitlines()
        with open(file, encoding="utf-8") as opened:
            return opened.read(MAX_FILE).splitlines()
    except (OSError, ValueError) as error:
        raise BatchFileError(f"-f {file}: {getattr(error, 'strerror', None) or error}") from error


def _of_line(words: Sequence[str], common: _Part, where: str) -> list[QueryArguments]:
    try:
        own = common.copy()
        named = _read(QUERY.parse(words), own)
        if "batch" in own.settings:
            raise UsageError("-f names a file of lines, and this is one")
        if not named:
            raise UsageError("no name to ask for")
        return [query for part in named for query in part.queries()]
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _last(words: Iterable[Word], setting: str) -> str | None:
    found = [word.value for word in words if word.option is not None and setting in word.option.sets]
    return found[-1] if found else None


def _read(words: Iterable[Word], common: _Part) -> list[_Part]:
    """Take in the words: those before the first name into ``common``, the others into a part for each name."""
    named: list[_Part] = []
    for word in words:
        part = named[-1] if named else common
        sets = word.option.sets if word.option is not None else ()
        if "name" in sets:
            named.append(common.of(word.value))
        elif "reverse" in sets:
            named.append(common.of(reverse_name("-x", word.value), is_reverse=True))
        elif word.option is not None:
            if "batch" in sets and named:
                raise UsageError("-f stands before the first name, if there is any")
            word.option.apply(part.settings, word.value, negated=word.is_negated)
        elif word.text.startswith("@"):
            part.add_server(parse_server(word.text.removeprefix("@")))
        elif not part.take(word.text):
            refuse_mistyped(word.text)
            named.append(common.of(word.text))
    return named


@dataclass(slots=True)
class _Part:
    """The words before the first name, or those of one name together with them."""

    name: str | None = None
    is_reverse: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    types: tuple[dns.rdatatype.RdataType, ...] = ()
    "Of bare words."
    servers: tuple[Server, ...] = ()
    has_own_servers: bool = False
    has_own_class: bool = False
    has_own_types: bool = False

    def copy(self) -> _Part:
        return replace(self, settings=dict(self.settings))

    def of(self, name: str, *, is_reverse: bool = False) -> _Part:
        """A part for one name, which begins with what holds for all."""
        return _Part(name, is_reverse, dict(self.settings), self.types, self.servers)

    def root(self) -> _Part:
        """Without any name, dig and kdig ask for the name servers of the root."""
        if not self.types and "rdtype" not in self.settings:
            self.types = (dns.rdatatype.NS,)
        return self.of(".")

    def add_server(self, server: Server) -> None:
        """One more, or the first of a name's own, which take the place of those for all."""
        before = self.servers if self.has_own_servers or self.name is None else ()
        self.servers, self.has_own_servers = (*before, server), True

    def take(self, word: str) -> bool:
        """Take a bare word as a type or a class, if it can be one.

        Before the first name, one type and one class: a second one is a name.  After a name each type asks once more.
        """
        as_type, as_class = type_of(word), class_of(word)
        if self.name is None:
            if as_type is not None and not self.types and "rdtype" not in self.settings:
                self.types = (as_type,)
                return True
            if as_class is not None and "rdclass" not in self.settings:
                self.settings["rdclass"] = as_class
                return True
            return False
        if as_type is not None and not (self.has_own_types and as_class is not None):  # ANY is a type, then a class
            self.types, self.has_own_types = (*(self.types if self.has_own_types else ()), as_type), True
            self.settings.pop("rdtype", None)
            return True
        if as_class is not None:
            if self.has_own_class and self.settings["rdclass"] != as_class:
                both = f"{self.settings['rdclass'].name} {as_class.name}"
                raise UsageError(f"more than one class for {self.name!r}: {both}")
            self.settings["rdclass"], self.has_own_class = as_class, True
            return True
        return False

    def queries(self) -> list[QueryArguments]:
        """One for each type; raises :class:`UsageError`."""
        assert self.name is not None, "words for all are no query"
        session, message, display = (_made(kind, self.settings) for kind in (Session, Message, Display))
        first = QueryArguments(
            self._servers(session),
            absolute(self.name),
            dns.rdatatype.A,
            self.settings.get("rdclass", dns.rdataclass.IN),
            session,
            _checked(message),
            display,
        )
        default = dns.rdatatype.PTR if self.is_reverse else dns.rdatatype.A
        types = (self.settings["rdtype"],) if "rdtype" in self.settings else self.types or (default,)
        if any(one in _TRANSFERS for one in types):
            raise UsageError(TRANSFER)
        return [first._replace(rdtype=rdtype) for rdtype in types]

    def _servers(self, session: Session) -> tuple[Server, ...]:
        if not self.servers:
            raise UsageError(
                "no server named: add @SERVER, such as @1.1.1.1 or @9.9.9.9#dns.quad9.net "
                "(there is no default, since resolv.conf names resolvers that speak cleartext)"
            )
        port = self.settings.get("port")
        servers = tuple(one._replace(port=one_of("port", one.port, port) or PORT) for one in self.servers)
        for server in servers:
            _check(session, server)
        return servers


def _made(kind: type[Any], settings: dict[str, Any]) -> Any:
    return kind(**{name: settings[name] for name in kind._fields if name in settings})


def _checked(message: Message) -> Message:
    if message.edns is None and (word := message.asks_by_edns()):
        raise UsageError(f"+noedns leaves no place for {word}, which is said by EDNS (RFC 6891): choose one")
    return message


def _check(session: Session, server: Server) -> None:
    """Refuse what could not be; raises :class:`UsageError`."""
    if session.opportunistic and session.ca_file is not None:
        raise UsageError("+opportunistic asks whoever answers, +tls-ca only who is trusted: choose one")
    _check_family(session, server)
    if session.key_file is not None and session.certificate_file is None:
        raise UsageError("+tls-keyfile without +tls-certfile: a key is shown with its certificate")
    if session.certificate_file is not None and not session.validates(server):
        raise UsageError(
            "+tls-certfile shows our certificate only to a server whose chain is validated: give its name, "
            "+tls-host=NAME, without +opportunistic"
        )
    if session.sni is not None and session.validates(server) and session.sni != session.authentication_name(server):
        raise UsageError(
            "+tls-sni: Python's ssl sends the name that it checks (+tls-host); another one goes with +opportunistic"
        )
    if session.sni is not None and session.authentication_name(server) is None:
        raise UsageError("+tls-sni: with pins alone no name is sent; give it as +tls-host, and it is checked too")
    try:
        session.policy(server)
    except LocalProtocolError as error:
        raise UsageError(f"@{server.host} with these options: {error}") from error


def _check_family(session: Session, server: Server) -> None:
    if session.ipv4 and session.ipv6:
        raise UsageError("-4 and -6: choose one")
    for word, is_asked, version_number in (("-4", session.ipv4, 4), ("-6", session.ipv6, 6)):
        for host in (server.host, *(session.source or ())[:1]):
            if is_asked and (found := _version_of(str(host))) is not None and found != version_number:
                raise UsageError(f"{word}: {host} is an IPv{found} address")
    if session.source is not None:
        versions = {_version_of(session.source[0]), _version_of(server.host) or _version_of(session.source[0])}
        if len(versions) > 1:
            raise UsageError(f"-b {session.source[0]} and @{server.host} are of different families")


def _version_of(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
