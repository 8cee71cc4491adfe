"""What the tests with real peers share."""

from __future__ import annotations

import pytest

from support.credentials import Credentials


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))
