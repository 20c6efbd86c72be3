"""The client of a booking service, and the real service that it calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from payment_client import PaymentsClient
from tests.payment_client.clients import client_of
from tests.rpc.processes import Process


@pytest.fixture
async def client(process: Process) -> AsyncIterator[PaymentsClient]:
    """A client of the process of this test."""
    async with client_of(str(process.server.address)) as made:
        yield made
