"""What errors about upstreams have in common: what was meant, and names that are nobody's business."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from ..errors import LocalProtocolError, PinError, UpstreamError
from ..hosts import check_port, is_address, normalize_address, normalize_name
from ..pins import HEX, Pin
from .operators import ACCOUNT_DOMAINS

LONGEST_SHOWN: Final = 60
"Characters of a wrong text that an error repeats."


_ACCOUNT: Final = re.compile(
    rf"(?<![a-z0-9._-])[a-z0-9._-]+\.({'|'.join(map(re.escape, ACCOUNT_DOMAINS))})(?![a-z0-9_-])",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """A name, or a text with names in it, for logs: without what tells an operator's customers apart."""
    return _ACCOUNT.sub(r"***.\1", text)


def shown(value: object) -> str:
    """A wrong value as an error repeats it, which may be long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def unknown(kind: str, word: object, known: Collection[str], meant: Mapping[str, str] = MappingProxyType({})) -> str:
    """What to say of a word that is not known: the one that was meant, as it seems, or all there are.

    ``meant`` has advice for words that others use.  Words are compared without regard to case and ``-``.
    """
    from difflib import get_close_matches  # for those who have made a mistake

    key = str(word).lower().replace("-", "_")
    if advice := meant.get(key):
        return f"unknown {kind} {shown(word)}; {advice}"
    spellings = {one.replace("-", "_"): one for one in known}
    if close := get_close_matches(key, spellings, n=1):
        return f"unknown {kind} {shown(word)}; did you mean {spellings[close[0]]}?"
    return f"unknown {kind} {shown(word)}; choose from {', '.join(sorted(known))}"


def read_pin(text: object) -> Pin:
    """A pin in text; raises :class:`~dot_proto.UpstreamError`, with the right form where it can be told."""
    if not isinstance(text, str):
        raise UpstreamError(f"a pin is a text in base64, not {shown(text)}")
    try:
        return Pin.parse(text)
    except PinError as error:
        guess = pin_meant(text)
        raise UpstreamError(f"{error}; did you mean {guess}?" if guess else str(error)) from None


def pin_meant(text: str) -> str | None:
    """The pin that a text of another form stands for, in base64; ``None`` where that is not plain."""
    if HEX.fullmatch(text):
        return str(Pin(bytes.fromhex(text.replace(":", ""))))
    bare = text.removeprefix("sha256//").rstrip("=").replace("-", "+").replace("_", "/").replace(" ", "+")
    try:
        return str(Pin.parse(f"{bare}="))
    except PinError:
        return None


def read_address(text: str) -> str:
    """An IP address in the form that is dialled; raises :class:`~dot_proto.UpstreamError`, with what was meant."""
    if not isinstance(text, str):
        raise UpstreamError(f"an address is a text, not {shown(text)}")
    try:
        return normalize_address(text)
    except LocalProtocolError as error:
        raise UpstreamError(_address_advice(text) or str(error)) from None


def _address_advice(text: str) -> str | None:
    if "://" in text:
        return f"{shown(text)} is a URL: Upstream.parse reads it, and in a file the key url"
    for separator in "#@":
        before, found, after = text.partition(separator)
        if found:
            return f"{shown(text)} is more than an address: give {before!r}, and {after!r} by itself as name or port"
    before, _, port = text.rpartition(":")
    if port.isdecimal() and is_host(before):
        return f"{shown(text)} names a port: give {before!r}, and the port by itself"
    if is_host(text) and not is_address(normalize_name(text)):
        return (
            f"{shown(text)} is a name, not an IP address: give the addresses too, or say how they are to be found "
            "(bootstrap)"
        )
    return None


def is_host(text: str) -> bool:
    """Whether it is a name or an address."""
    try:
        normalize_name(text)
    except LocalProtocolError:
        return False
    return True


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address without brackets."""
    return ":" in text and text[0] != "[" and is_host(text) and is_address(normalize_name(text))


def read_port(text: str) -> int:
    """A port in decimal digits; raises :class:`~dot_proto.UpstreamError`."""
    if not text.isascii() or not text.isdecimal():
        raise UpstreamError(f"a port is a number, not {shown(text)}")
    try:
        return check_port(int(text[:6]))
    except LocalProtocolError as error:
        raise UpstreamError(str(error)) from None
