"""A recording core and, in front of it, a gateway in this process."""

from collections.abc import AsyncIterator

import pytest

from tests.callback_gateway.edges import FORWARD_TIME_S, gateway
from tests.callback_gateway.recording_core import RecordingCore, serve_core


@pytest.fixture
async def core() -> AsyncIterator[RecordingCore]:
    async with serve_core(RecordingCore()) as serving:
        yield serving


@pytest.fixture
async def edge(core: RecordingCore) -> AsyncIterator[str]:
    async with gateway(core.address, forward_time_s=FORWARD_TIME_S) as address:
        yield address
