"""What a process says that it is ready for, told by the health service that callers and the gateway ask."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from structlog.testing import capture_logs

from payment_service.application.calling.first_token import FirstTokens
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.readiness import reporting_readiness
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import running_process

CALLBACKS = "mpesa_payments.v1.CallbackService"


async def test_a_process_whose_clock_is_wrong_is_not_ready_and_says_so_until_it_is_right(
    database: Database, tmp_path: Path
) -> None:
    off = [300.0]
    clock = DatabaseClock(lambda: datetime.now(UTC) + timedelta(seconds=off[0]))
    async with running_process(database.application_url, tmp_path) as process:
        health = health_pb2_grpc.HealthStub(process.channel)

        async def becomes(status: int) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await health.Check(HealthCheckRequest(service=CALLBACKS))).status != status:
                    await asyncio.sleep(0.02)

        await becomes(HealthCheckResponse.SERVING)
        engine = process.core.reads.engine
        with capture_logs() as lines:
            async with reporting_readiness(process.server, process.feed, FirstTokens(()), engine, clock):
                await becomes(HealthCheckResponse.NOT_SERVING)
                off[0] = 0.0
                await becomes(HealthCheckResponse.SERVING)
    told = [(line["ready_for"]["callbacks"], line["problem"]) for line in lines if line["event"] == "readiness changed"]
    assert told == [
        (False, "this clock and the database's differ by 300.0 s"),
        (True, "Daraja has given no access token yet"),
    ]
