"""A process's writers on a database of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.core.writers import Writers, running_writers


@pytest.fixture
async def writers(database: Database, tmp_path: Path) -> AsyncIterator[Writers]:
    async with running_writers(database.application_url, tmp_path) as running:
        yield running
