"""What the tests of the access token share."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from payment_service.daraja.client import Exchange
from payment_service.security.keys import create_keys, load_keys
from payment_service.security.sealing import Sealer
from tests.application.calling.stage import Clock, Stage, instance
from tests.daraja_simulator.simulators import in_process
from tests.databases import Database


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    create_keys(tmp_path / "keys.json")
    sealer = Sealer(load_keys(tmp_path / "keys.json"))
    clock, kept = Clock(), list[Exchange]()
    async with AsyncExitStack() as stack:
        world, url = await stack.enter_async_context(in_process(latency_seconds=0.2))
        one, other = [await stack.enter_async_context(instance(url, database, sealer, clock, kept)) for _ in range(2)]
        yield Stage(world, clock, one, other, kept)
