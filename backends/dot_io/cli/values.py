"""The values of options, read from text: numbers, files, EDNS options.  Each function is told the option's name."""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final

from dot_proto import MAX_MESSAGE
from dot_proto.pins import Pin

from ._errors import UsageError
from .questions import read_class, read_type
from .servers import ascii_name, is_number, parse_pin_text, port_number

if TYPE_CHECKING:
    import dns.rdataclass
    import dns.rdatatype

    from .keys import Key

FILE_SUFFIXES: Final = (".pem", ".der", ".crt", ".cer", ".key", ".pub")
"Endings by which a word that could also be a name is taken for a file."

MAX_COOKIE: Final = 40
"Octets of the longest cookie, client's and server's part (RFC 7873, section 4)."

CLIENT_COOKIE: Final = 8
"Octets of the client's part."


def text(option: str, value: str) -> str:
    """A value that is anything but empty."""
    if not value:
        raise UsageError(f"{option}= without a value")
    return value


def any_text(option: str, value: str) -> str:
    """A value that may be empty."""
    return value


def server_name(option: str, value: str) -> str | None:
    """The name in a server's certificate."""
    if not value:
        raise UsageError(f"{option}= without a name; write the name in the server's certificate")
    return ascii_name(value)


def pin(option: str, value: str) -> Pin:
    """A SHA-256 SPKI pin."""
    return parse_pin_text(option, value)


def port(option: str, value: str) -> int:
    """A port that may carry TLS."""
    return port_number(value)


def seconds(option: str, value: str) -> float:
    """A time span, more than 0."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"+timeout={value}: give seconds, more than 0, such as +timeout=2.5")
    return number


def padding(option: str, value: str) -> int:
    """Octets of a block."""
    if not is_number(value, 1, MAX_MESSAGE):
        raise UsageError(f"{option}={value}: give octets from 1 to {MAX_MESSAGE}, or +nopadding")
    return int(value)


def octet(option: str, value: str) -> int:
    """A number of 8 bits."""
    return _whole(option, value, 255)


def half(option: str, value: str) -> int:
    """A number of 16 bits."""
    return _whole(option, value, 65_535)


def _whole(option: str, value: str, maximum: int) -> int:
    if not is_number(value, 0, maximum):
        raise UsageError(f"{option}={value}: give a number from 0 to {maximum}")
    return int(value)


def rdtype(option: str, value: str) -> dns.rdatatype.RdataType:
    """A type, by name or number."""
    return read_type(option, value)


def rdclass(option: str, value: str) -> dns.rdataclass.RdataClass:
    """A class, by name or number."""
    return read_class(option, value)


def opcode(option: str, value: str) -> int:
    """A mnemonic or a number."""
    if is_number(value, 0, 15):
        return int(value)
    import dns.opcode  # here alone: few lines say one

    try:
        return int(dns.opcode.Opcode[value.upper()])
    except KeyError:
        known = ", ".join(sorted(dns.opcode.Opcode.__members__))
        raise UsageError(f"{option}={value}: no opcode; give a number from 0 to 15, or one of {known}") from None


def source(option: str, value: str) -> tuple[str, int]:
    """An address of this machine, and a port or 0: ``ADDR[#PORT]``, as in dig."""
    address, _, number = value.partition("#")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UsageError(f"{option} {value}: no address of this machine; write ADDR or ADDR#PORT") from None
    if "#" in value and not is_number(number, 1, 65_535):
        raise UsageError(f"{option} {value}: {number!r} is no port: give a number from 1 to 65535")
    return address, int(number or 0)


def when(option: str, value: str) -> str:
    """When there is colour."""
    if value not in ("always", "never", "auto"):
        raise UsageError(f"{option}={value}: give always, never or auto")
    return value


def is_decimal(word: str) -> bool:
    """Whether a word is a number."""
    return word.isdecimal()


def is_file(word: str) -> bool:
    """Whether a word can only be a file's path."""
    return not word.startswith(("+", "-", "@")) and ("/" in word or word.lower().endswith(FILE_SUFFIXES))


def cookie(option: str, value: str) -> bytes:
    """A cookie in hexadecimal: 8 octets of ours, and perhaps 8 to 32 of the server's (RFC 7873, section 4)."""
    data = _hexadecimal(option, value)
    if len(data) != CLIENT_COOKIE and not 2 * CLIENT_COOKIE <= len(data) <= MAX_COOKIE:
        raise UsageError(f"{option}={value}: a cookie has 8 octets, or 16 to 40 (RFC 7873, section 4)")
    return data


def subnet(option: str, value: str) -> bytes:
    """A client subnet as the option's data (RFC 7871, section 6); ``0/0`` asks that none be used (section 7.1.2)."""
    address, slash, bits = value.partition("/")
    if address == "0":
        address, slash, bits = "0.0.0.0", "/", bits or "0"
    try:
        network = ipaddress.ip_network(f"{address}{slash}{bits}", strict=False)
    except ValueError as error:
        raise UsageError(f"{option}={value}: give ADDRESS/BITS, or 0/0: {error}") from error
    octets = network.network_address.packed[: -(-network.prefixlen // 8)]
    return struct.pack("!HBB", 1 if network.version == 4 else 2, network.prefixlen, 0) + octets


def edns_option(option: str, value: str) -> tuple[int, bytes]:
    """Code and data of ``CODE[:HEX]``, where the code may be a name (IANA, DNS EDNS0 Option Codes)."""
    import dns.edns  # here alone, as above

    names = {known.name: int(known) for known in dns.edns.OptionType} | {"SUBNET": int(dns.edns.OptionType.ECS)}
    code, _, data = value.partition(":")
    number = int(code) if is_number(code, 0, 65_535) else names.get(code.upper())
    if number is None:
        raise UsageError(
            f"{option}={value}: {code!r} is no EDNS option; give a number from 0 to 65535, or a name such as NSID, "
            "ECS or COOKIE"
        )
    return number, _hexadecimal(option, data)


def key(option: str, value: str) -> Key:
    """A TSIG key on the command line."""
    from . import keys  # here alone, as above

    return keys.of_text(option, value)


def key_file(option: str, value: str) -> Key:
    """A TSIG key in a file."""
    from . import keys

    return keys.of_file(option, value)


def _hexadecimal(option: str, value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise UsageError(f"{option}: {value!r} is not hexadecimal; write two digits for each octet") from None
