"""What both examples read from the command line, and how they print an answer: the dull part."""

from __future__ import annotations

import argparse
import ssl
from dataclasses import dataclass

from dot_proto import AuthenticationPolicy, DoTError, Pin


@dataclass(frozen=True)
class Arguments:
    """Where to ask, whom to trust there, and what to ask."""

    host: str
    port: int
    policy: AuthenticationPolicy
    names: list[str]
    timeout: float
    "Seconds for each query."


def arguments(description: str | None) -> Arguments:
    """The command line; ends the program with code 2 when it makes no sense."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("host", help="the server's address")
    parser.add_argument("names", nargs="+", help="names to ask for, all at once")
    parser.add_argument("--port", type=int, default=853, help="default 853 (RFC 7858, section 3.1)")
    parser.add_argument("--name", help="the name that the server's certificate must bear")
    parser.add_argument("--pin", action="append", default=[], help="sha256 of the server's public key in base64")
    parser.add_argument("--ca", metavar="FILE", help="a certificate in PEM to trust instead of the system's")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds to wait for each answer; default 5")
    given = parser.parse_args()
    try:
        anchors = None
        if given.ca is not None:
            with open(given.ca, encoding="ascii") as file:
                anchors = [ssl.PEM_cert_to_DER_cert(file.read())]
        # With neither a name nor a pin, the certificate must be for the address that is dialled.
        name = given.name if given.name or given.pin else given.host
        policy = AuthenticationPolicy.strict(name, pins=[Pin.parse(pin) for pin in given.pin], trust_anchors=anchors)
    except (DoTError, OSError, ValueError) as error:
        parser.error(str(error))
    return Arguments(given.host, given.port, policy, given.names, given.timeout)


def summary(name: str, response: bytes) -> str:
    """One line about an answer: its size, and the RCODE in its header (RFC 1035, section 4.1.1)."""
    return f"{name}: {len(response)} octets, rcode {response[3] & 15}"
