"""What the tests of the examples share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.databases import Database
from tests.examples.shops import Shop, open_shop


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    async with open_shop(database, number_of_seats=3) as opened:
        yield opened
