"""The test vectors in ``tests/vectors``: octets computed from the RFCs, with the outcome that is due."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """All of ``NAME.json``."""
    loaded: dict[str, Any] = json.loads((HOME / f"{name}.json").read_text("utf-8"))
    return loaded


def octets(value: str | list[tuple[str, int]]) -> bytes:
    """Octets from hex, or from a list of ``[hex, times]`` where a long run would bloat the file."""
    if isinstance(value, str):
        return bytes.fromhex(value)
    return b"".join(bytes.fromhex(digits) * times for digits, times in value)


def certificate_pem(name: str) -> bytes:
    """The PEM text of a certificate in ``certs``."""
    return (HOME / "certs" / f"{name}.pem").read_bytes()


def certificate(name: str) -> bytes:
    """The DER octets of a certificate in ``certs``."""
    return b64decode(b"".join(certificate_pem(name).splitlines()[1:-1]))
