"""EDNS options in words, one line for each; one that has not the form of its code is shown as octets."""

from __future__ import annotations

import ipaddress
from typing import Final

from ._errors import printable
from .values import CLIENT_COOKIE

NSID, ECS, EXPIRE, COOKIE, KEEPALIVE, PADDING, EDE = 3, 8, 9, 10, 11, 12, 15
"EDNS options (IANA, DNS EDNS0 Option Codes)."

MAX_TEXT: Final = 1024
"Characters of a stranger's text that are shown."


def option(code: int, data: bytes) -> str:
    """An option in one line."""
    return _known(code, data) or f"OPTION {code}: {data.hex().upper()}".rstrip()


def _known(code: int, data: bytes) -> str | None:
    if code == PADDING:
        return f"PADDING: {len(data)} B"
    if code == KEEPALIVE:
        return _keepalive(data)
    if code == NSID:
        return f'NSID: {data.hex().upper()} "{_text(data, "ascii")}"' if data else "NSID"
    if code == EDE and len(data) >= 2:
        return _error(data)
    if code == COOKIE and len(data) >= CLIENT_COOKIE:
        return f"COOKIE: {data.hex()}"
    if code == ECS:
        return _subnet(data)
    if code == EXPIRE and len(data) in (0, 4):
        number = int.from_bytes(data)
        return f"EXPIRE: {number} ({duration(number)})" if data else "EXPIRE"
    return None


def _keepalive(data: bytes) -> str | None:
    """In tenths of a second (RFC 7828, section 3.1)."""
    if not data:
        return "KEEPALIVE: no timeout stated"
    return f"KEEPALIVE: {int.from_bytes(data) / 10:.1f} s" if len(data) == 2 else None


def error_name(number: int) -> str:
    """An extended error in words (IANA, Extended DNS Error Codes); empty for an unknown one."""
    import dns.edns  # here alone: few answers have one

    name = dns.edns.EDECode.make(number).name
    return "" if name == str(number) else name.replace("_", " ").title()


def error_text(data: bytes) -> str:
    """The text of an extended error, which should be UTF-8 (RFC 8914, section 2), safe to print."""
    return _text(data[2:].rstrip(b"\0"), "utf-8")


def _error(data: bytes) -> str:
    number = int.from_bytes(data[:2])
    name, text = error_name(number), error_text(data)
    return f"EDE: {number}{f' ({name})' if name else ''}{f': {text}' if text else ''}"


def _text(data: bytes, encoding: str) -> str:
    text = data[: 4 * MAX_TEXT].decode(encoding, "backslashreplace")
    shown = printable(text[:MAX_TEXT])
    return shown if len(text) <= MAX_TEXT else f"{shown}... (cut)"


def _subnet(data: bytes) -> str | None:
    """Address, source and scope prefix length, as kdig writes them (RFC 7871, section 6)."""
    if len(data) < 4:
        return None
    size = {1: 4, 2: 16}.get(int.from_bytes(data[:2]))
    if size is None or len(data) > 4 + size:
        return None
    address = ipaddress.ip_address(data[4:].ljust(size, b"\0"))
    return f"CLIENT-SUBNET: {address}/{data[2]}/{data[3]}"


_UNITS: Final = (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def duration(seconds: int) -> str:
    """A time span in words, as kdig writes it: ``1 day 2 hours``."""
    parts: list[str] = []
    for name, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return " ".join(parts) or "0 seconds"


def units(seconds: int) -> str:
    """A TTL as dig's ``+ttlunits`` writes it: ``1d2h``."""
    text = ""
    for name, length in _UNITS:
        count, seconds = divmod(seconds, length)
        text += f"{count}{name[0]}" if count else ""
    return text or "0s"
