"""A simulator without chance and a merchant of it, new for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.daraja_simulator.merchant import Merchant, merchant_of
from tests.daraja_simulator.simulators import in_process


@pytest.fixture
async def merchant() -> AsyncIterator[Merchant]:
    async with in_process() as (_, url), merchant_of(url) as merchant:
        yield merchant
