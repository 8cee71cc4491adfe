"""What the server knows, in presentation format; dnspython reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, Final, TypeVar

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME

from dot_proto import MAX_MESSAGE, LocalProtocolError
from dot_proto.arguments import check_instance, collected, complaint, shown

from .mistakes import SettingError

TTL: Final = 300
"Seconds, unless told otherwise."

PAYLOAD: Final = 1232
"Octets of UDP payload that the server says it takes (DNS flag day 2020); over TLS it means nothing."

ROOM: Final = MAX_MESSAGE - 12 - (255 + 4) - 11
"Octets left for the records of an answer behind a header, the longest question and a bare OPT (RFC 1035, RFC 6891)."

RECORD_HEAD: Final = 12
"Octets of a record without its data, the name being a pointer (RFC 1035, sections 3.2.1 and 4.1.4)."

T = TypeVar("T")
_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


def name_of(text: str) -> dns.name.Name:
    """An absolute name, whether or not a dot ends it; raises :class:`SettingError` for what is none."""
    if not isinstance(text, str):
        raise SettingError(complaint("a name", "text", text))
    try:
        return dns.name.from_text(text)
    except dns.exception.DNSException as error:
        raise SettingError(f"{shown(text)} is no DNS name: {error}") from error


def text_of(name: dns.name.Name) -> str:
    """A name in lower case, without the last dot; the root is ``.``."""
    return name.canonicalize().to_text(omit_final_dot=True)


class ByName(MutableMapping[str, T]):
    """A value for each of some names, compared as DNS does: without regard to case."""

    def __init__(self, check: Callable[[Any], T]) -> None:
        """``check`` returns the value to be kept, or raises :class:`SettingError`."""
        self._check = check
        self._values: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        return self._values[text_of(name_of(name))]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[text_of(name_of(name))] = self._check(value)

    def __delitem__(self, name: str) -> None:
        del self._values[text_of(name_of(name))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Answers(MutableMapping[tuple[str, str], Sequence[str] | str]):
    """Records by name and type, ``answers["example.com", "A"] = ["192.0.2.1"]``, or an RCODE's name.

    Records are answered in the order given; an empty list is a name without such records.  Names in the records are
    absolute, with or without a last dot.  What cannot be read raises :class:`SettingError` where it is set.
    """

    def __init__(self) -> None:
        self.ttl = TTL
        "Seconds that every record may be kept."
        self._known: dict[_Key, tuple[dns.rdata.Rdata, ...] | dns.rcode.Rcode] = {}

    def __getitem__(self, key: tuple[str, str]) -> Sequence[str] | str:
        found = self._known[_parse_key(key)]
        if isinstance(found, dns.rcode.Rcode):
            return dns.rcode.to_text(found)
        return [record.to_text() for record in found]

    def __setitem__(self, key: tuple[str, str], value: Sequence[str] | str) -> None:
        name, rdtype = _parse_key(key)
        self._known[name, rdtype] = _rcode(value) if isinstance(value, str) else _records(rdtype, value)

    def __delitem__(self, key: tuple[str, str]) -> None:
        del self._known[_parse_key(key)]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter([(text_of(name), dns.rdatatype.to_text(rdtype)) for name, rdtype in list(self._known)])

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return repr(dict(self))

    def respond(self, query: dns.message.Message) -> dns.message.Message:
        """The response of a resolver that knows this and nothing else.

        A name unknown is NXDOMAIN; a name known under other types alone has no records.  Aliases are followed.
        """
        check_instance("query", query, dns.message.Message, "dns.message.from_wire makes one of octets")
        response = dns.message.make_response(query, recursion_available=True)
        response.use_edns(0, payload=PAYLOAD)  # taken away again where the query has none
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
            return response
        for question in query.question:
            response.set_rcode(self._look_up(question.name, question.rdtype, response.answer))
        return response

    def _look_up(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, answer: list[dns.rrset.RRset]
    ) -> dns.rcode.Rcode:
        seen: set[dns.name.Name] = set()  # aliases may go round in circles
        while name not in seen:
            seen.add(name)
            found = self._known.get((name, rdtype), self._known.get((name, dns.rdatatype.CNAME)))
            if isinstance(found, dns.rcode.Rcode):
                return found
            # One set for each record, since dnspython shuffles what is in a set.
            answer += [dns.rrset.from_rdata(name, self.ttl, record) for record in found or ()]
            alias = found[0] if found and rdtype != dns.rdatatype.CNAME else None
            if not isinstance(alias, CNAME):
                is_known = found is not None or any(name == known for known, _ in list(self._known))
                return dns.rcode.NOERROR if is_known else dns.rcode.NXDOMAIN
            name = alias.target
        return dns.rcode.NOERROR


def _parse_key(key: tuple[str, str]) -> _Key:
    if not (isinstance(key, tuple) and len(key) == 2):
        raise SettingError(f'{shown(key)} is no name and type, such as ("example.com", "A")')
    name, rdtype = key
    if not isinstance(rdtype, str):
        raise SettingError(complaint("the record type", "text", rdtype))
    try:
        return name_of(name).canonicalize(), dns.rdatatype.from_text(rdtype)
    except dns.exception.DNSException as error:
        raise SettingError(f"{shown(rdtype)} is no record type") from error


def _rcode(text: str) -> dns.rcode.Rcode:
    try:
        return dns.rcode.from_text(text)
    except dns.exception.DNSException as error:
        raise SettingError(f"{shown(text)} is no RCODE; records are given as a list of texts") from error


def _records(rdtype: dns.rdatatype.RdataType, texts: Sequence[str]) -> tuple[dns.rdata.Rdata, ...]:
    kind = dns.rdatatype.to_text(rdtype)
    try:
        texts = collected("records", texts, str, "a list of texts, or an RCODE's name")
    except LocalProtocolError as error:
        raise SettingError(str(error)) from None
    try:
        records = tuple(
            dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, origin=dns.name.root, relativize=False)
            for text in texts
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise SettingError(f"{list(texts)!r} are no {kind} records in presentation format: {error}") from error
    size = sum(RECORD_HEAD + len(record.to_wire() or b"") for record in records)
    if size > ROOM:
        raise SettingError(f"{len(records)} {kind} records of {size} octets do not fit into one DNS message")
    return records
