"""Every target: a function of octets that returns where all laws hold, and raises where one is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzzing import client, der, framer, reader, server, texts, tls

HOME = Path(__file__).parent

TARGETS: dict[str, Callable[[bytes], None]] = {
    module.__name__.rpartition(".")[2]: module.target for module in (framer, reader, der, texts, client, server, tls)
}


def corpus_of(name: str) -> list[Path]:
    """The octets that are kept for a target: each takes it a way of its own, or was a finding once."""
    return sorted(HOME.glob(f"corpus/{name}/*")) + sorted(HOME.glob(f"findings/{name}/*"))
