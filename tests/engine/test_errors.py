"""Two kinds of error, told apart by who made the mistake (design promise 3)."""

from __future__ import annotations

import pytest

from dot_proto import (
    CertificateError,
    DoTError,
    Fault,
    IdInUseError,
    LocalProtocolError,
    MessageError,
    PinError,
    RemoteProtocolError,
    TooManyQueriesError,
)

LOCAL = [IdInUseError, TooManyQueriesError, PinError, CertificateError, MessageError]


@pytest.mark.parametrize("kind", LOCAL)
def test_the_callers_mistakes(kind):
    """One except clause catches them, and never the peer's."""
    assert issubclass(kind, LocalProtocolError)
    assert not issubclass(kind, RemoteProtocolError)


@pytest.mark.parametrize("kind", [PinError, CertificateError, MessageError])
def test_bad_values_are_value_errors(kind):
    """Whoever parses user input need not know this package's errors."""
    assert issubclass(kind, ValueError)


def test_one_base():
    """Everything that this package raises, and nothing else."""
    assert issubclass(LocalProtocolError, DoTError)
    assert issubclass(RemoteProtocolError, DoTError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


@pytest.mark.parametrize("fault", Fault)
def test_faults_are_stable_codes(fault):
    """The code is the name, for logs and metrics; the text says more."""
    error = RemoteProtocolError("the words", fault)
    assert error.fault is fault
    assert str(error) == "the words"
    assert fault.value == fault.name.lower().replace("_", "-")
