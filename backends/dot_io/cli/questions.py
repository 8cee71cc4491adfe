"""What the other words of a command line mean: which is a name, which a type or a class."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype

from ._errors import UsageError

TRANSFER: Final = "a zone transfer takes many messages; this command asks for one"


def is_type_or_class(word: str) -> bool:
    """Whether a word can be read as one."""
    return type_of(word) is not None or class_of(word) is not None


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


def refuse_mistyped(word: str) -> None:
    """Refuse a word that is no type but a letter away from one; a dot makes any word a name.

    dig and kdig would ask for a name of that spelling, of the root's servers in the end.
    """
    if re.fullmatch(r"(?i)(TYPE|CLASS)[0-9]+", word):
        raise UsageError(f"{word!r} is no type or class: their numbers end at 65535 (RFC 3597, section 5)")
    if re.fullmatch(r"(?i)IXFR=.*", word):
        raise UsageError(TRANSFER)
    if "." in word or not word or is_type_or_class(word):
        return
    close = [kind for kind in map(dns.rdatatype.to_text, dns.rdatatype.RdataType) if _is_slip(word.upper(), kind)]
    if close:
        hint = f" To ask for the name, write {word + '.'!r}"
        raise UsageError(f"{word!r} is no type or class; did you mean {close[0]}?{hint}")


def _is_slip(word: str, meant: str) -> bool:
    """Whether one letter is wrong, missing or too many, or two neighbours have changed places."""
    if abs(len(word) - len(meant)) > 1 or len(word) == 1:  # any letter is one away from A
        return False
    start = next((at for at, (one, other) in enumerate(zip(word, meant, strict=False)) if one != other), None)
    if start is None:
        return True
    tail, rest = word[start:], meant[start:]
    return tail[1:] in (rest, rest[1:]) or tail == rest[1:] or (tail[:2] == rest[1::-1] and tail[2:] == rest[2:])


def read_type(option: str, text: str) -> dns.rdatatype.RdataType:
    """The value of ``-t``; raises :class:`UsageError`."""
    rdtype = type_of(text)
    if rdtype is None:
        refuse_mistyped(text)
        raise UsageError(f"{option} {text}: no type of a record; write one as AAAA or TYPE28")
    return rdtype


def read_class(option: str, text: str) -> dns.rdataclass.RdataClass:
    """The value of ``-c``; raises :class:`UsageError`."""
    rdclass = class_of(text)
    if rdclass is None:
        raise UsageError(f"{option} {text}: no class; write one as IN or CLASS1")
    return rdclass


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


def reverse_name(option: str, address: str) -> str:
    """The name under which an address has its PTR records (RFC 1035, section 3.5; RFC 3596, section 2.5)."""
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError as error:
        raise UsageError(f"{option} {address}: no IPv4 or IPv6 address") from error
