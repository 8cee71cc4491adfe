"""What a test sets and cannot be set."""

from __future__ import annotations

from dot_proto import LocalProtocolError


class SettingError(LocalProtocolError, ValueError):
    """What a test has set is none of what can be set; the text says what can."""
