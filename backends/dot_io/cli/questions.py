"""The question on the command line: which word is a name, which a type or a class."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype

from ._errors import UsageError


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for."""

    name: str
    "Absolute, in A-labels."
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass


def questions(words: list[str], reverse: str | None) -> list[Question]:
    """Name, type and class out of words in any order; several questions as in dig: NAME TYPE NAME TYPE."""
    groups = _by_name(words, reverse)
    questions: list[Question] = []
    for name, others in groups:
        types: list[dns.rdatatype.RdataType] = []
        classes: list[dns.rdataclass.RdataClass] = []
        for word in others:
            as_type, as_class = type_of(word), class_of(word)
            if as_type is not None and not (types and as_class is not None):  # ANY is a type, and then a class
                types.append(as_type)
            elif as_class is not None:
                classes.append(as_class)
        if len(groups) > 1 and not types:
            raise UsageError(_too_many([name for name, _ in groups]))
        if len(set(classes)) > 1:
            raise UsageError(f"more than one class for {name!r}: {' '.join(map(dns.rdataclass.to_text, classes))}")
        if dns.rdatatype.AXFR in types or dns.rdatatype.IXFR in types:
            raise UsageError("a zone transfer takes many messages; this command asks for one")
        rdclass = classes[0] if classes else dns.rdataclass.IN
        default = dns.rdatatype.A if reverse is None else dns.rdatatype.PTR
        questions += [Question(absolute(name), rdtype, rdclass) for rdtype in types or [default]]
    return questions


def _by_name(words: list[str], reverse: str | None) -> list[tuple[str, list[str]]]:
    """Each name with the types and classes that are its own: those that follow it, and the first has all before it."""
    names = [word for word in words if type_of(word) is None and class_of(word) is None]
    if reverse is not None:
        name = _reverse(reverse)
        if names:
            raise UsageError(f"-x asks for the name of an address, and {names[0]!r} is named too: choose one")
        return [(name, words)]
    if not names:
        return [_name_among(words)]
    first = words.index(names[0])
    groups: list[tuple[str, list[str]]] = [(names[0], words[:first])]
    for word in words[first + 1 :]:
        if type_of(word) is None and class_of(word) is None:
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    return groups


def _name_among(words: list[str]) -> tuple[str, list[str]]:
    """The name where every word could be a type or a class: the first type is one, and so is the first class."""
    rest = list(words)
    own: list[str] = []
    for meaning in (type_of, class_of):
        if found := next((word for word in rest if meaning(word) is not None), None):
            rest.remove(found)
            own.append(found)
    if not rest:
        hint = f"; to ask for the name {words[0]!r}, end it with a dot" if words else ""
        raise UsageError(f"no name to ask for{hint}")
    if len(rest) > 1:
        raise UsageError(f"no word that can only be a name among {' '.join(words)}: end the name with a dot")
    return rest[0], own


def type_of(word: str) -> dns.rdatatype.RdataType | None:
    """The type that a word names, if it names one."""
    try:
        return dns.rdatatype.from_text(word)
    except (dns.exception.DNSException, ValueError):
        return None


def class_of(word: str) -> dns.rdataclass.RdataClass | None:
    """The class that a word names, if it names one."""
    try:
        return dns.rdataclass.from_text(word)
    except (dns.exception.DNSException, ValueError):
        return None


def _too_many(names: list[str]) -> str:
    import difflib

    types = [kind.name for kind in dns.rdatatype.RdataType]
    for word in names:
        if re.fullmatch(r"(?i)(TYPE|CLASS)[0-9]+", word):
            return f"{word!r} is no type or class: their numbers end at 65535 (RFC 3597, section 5)"
        if "." not in word and (close := difflib.get_close_matches(word.upper(), types, n=1)):
            return f"{word!r} is no type or class; did you mean {close[0]}?"
    return f"more than one name to ask for: {' '.join(names)}; to ask for several, give each its type: NAME TYPE ..."


def absolute(word: str) -> str:
    """An absolute name in A-labels; by IDNA 2008 (RFC 5891), since IDNA 2003 makes ``fass`` of ``faß``."""
    if not word:
        raise UsageError("an empty word is no domain name; the root's is '.'")
    try:
        return dns.name.from_text(word, idna_codec=dns.name.IDNA_2008_Practical).to_text()
    except dns.name.NoIDNA2008 as error:
        raise UsageError(
            f"{word!r} is not ASCII and the package 'idna' is not installed: pip install 'dot-proto[cli]', "
            "or give the name in A-labels (xn--...)"
        ) from error
    except (dns.exception.DNSException, UnicodeError) as error:
        raise UsageError(f"{word!r} is no domain name: {error}") from error


def _reverse(address: str) -> str:
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError as error:
        raise UsageError(f"-x {address}: no IPv4 or IPv6 address") from error
