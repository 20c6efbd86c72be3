"""What keeps the real program from starting is one sentence, however deep inside it was found."""

import asyncio
from dataclasses import replace

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from development.postgres import EmbeddedServer
from payment_service.config import OwnerSettings
from payment_service.database import refuse_old_postgres, upgrade_database
from runtime.serving import StartRefused
from tests.databases import Database
from tests.end_to_end.town import Grounds
from tests.parts import channel
from tests.patience import PATIENCE_SECONDS


async def test_a_taken_port_is_one_sentence_and_no_traceback(grounds: Grounds) -> None:
    async with grounds.site.running_core() as first:
        with pytest.raises(AssertionError) as ended:
            async with grounds.site.running_core(listen=first.address):
                pass
    said = str(ended.value)
    assert "is taken by another program" in said
    assert "--listen or PAYMENTS_GRPC_ADDRESS" in said
    assert "Traceback" not in said


async def test_the_owner_of_the_log_is_refused_for_the_service(grounds: Grounds, database: Database) -> None:
    site = replace(grounds.site, database_url=database.owner_url)
    with pytest.raises(AssertionError) as ended:
        async with site.running_core():
            pass
    assert "may alter the log of payments" in str(ended.value)
    assert "Traceback" not in str(ended.value)


async def test_a_database_that_takes_no_writes_is_not_ready(grounds: Grounds, database: Database) -> None:
    async with grounds.site.running_core() as core, channel(core.address) as calls:
        health = health_pb2_grpc.HealthStub(calls)
        await _becomes(health, health_pb2.HealthCheckResponse.SERVING)
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
            await _becomes(health, health_pb2.HealthCheckResponse.NOT_SERVING)
            await owner.execute(f'ALTER DATABASE "{database.name}" RESET default_transaction_read_only')
            await _becomes(health, health_pb2.HealthCheckResponse.SERVING)


def test_a_postgresql_that_is_too_old_is_named() -> None:
    refuse_old_postgres(160_000)
    with pytest.raises(StartRefused, match="version 15, and 16 or newer"):
        refuse_old_postgres(150_013)


async def test_migrate_says_what_it_has_done(empty_database: tuple[EmbeddedServer, str]) -> None:
    _, owner_url = empty_database
    settings = OwnerSettings(database_url=SecretStr(owner_url))
    assert "was made" in await asyncio.to_thread(upgrade_database, settings)
    assert "up to date" in await asyncio.to_thread(upgrade_database, settings)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartRefused, match="at version 9999, which is newer"):
        await asyncio.to_thread(upgrade_database, settings)


async def _becomes(health: health_pb2_grpc.HealthStub, status: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await health.Check(health_pb2.HealthCheckRequest())).status == status:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)
