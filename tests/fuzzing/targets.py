"""Every target: a function of octets that returns where all laws hold, and raises where one is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzzing import client, der, framer, laws, reader, server, texts, tls

HOME = Path(__file__).parent

TARGETS: dict[str, Callable[[bytes], object]] = {
    "framer": framer.target,
    "reader": reader.target,
    "der": der.target,
    "texts": texts.target,
    "client": client.target,
    "server": server.target,
    "tls": tls.target,
    **laws.TARGETS,
}


def kept_for(name: str) -> list[Path]:
    """The octets that are kept for a target: each takes it a way of its own, or was a finding once."""
    return [file for kind in ("corpus", "findings") for file in sorted(HOME.glob(f"{kind}/{name}/*"))]
