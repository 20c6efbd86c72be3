"""What the tests of the desk share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.application.approving.twosome import Twosome, two_operators
from tests.case_desk.desks import Served, desk_before
from tests.databases import Database


@pytest.fixture
async def two(database: Database, tmp_path: Path) -> AsyncIterator[Twosome]:
    async with two_operators(database, tmp_path) as running:
        yield running


@pytest.fixture
async def desk(two: Twosome) -> AsyncIterator[Served]:
    async with desk_before(two) as served:
        yield served
