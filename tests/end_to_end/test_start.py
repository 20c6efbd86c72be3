"""What keeps the real program from starting is one sentence, however deep inside it was found."""

import asyncio
import contextlib
import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from pydantic import SecretStr

from development.postgres import EmbeddedServer, find_free_port
from payment_service.config import OwnerSettings
from payment_service.database import check_callers, check_keys, refuse_old_postgres, remember_keys, upgrade_database
from payment_service.security.keys import PURPOSES, create_keys, load_keys
from payment_service.store.engines import read_engine
from runtime.callback_tokens import callback_path, load_callback_keys
from runtime.serving import StartRefused
from tests.databases import Database
from tests.end_to_end.town import Grounds, a_phone, initiate, prompt, status_of
from tests.parts import Process, Site, channel, read_page, running_simulator, soft_limit
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.writers import Writers, a_request

CALLBACKS = "mpesa_payments.v1.CallbackService"


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
        await _becomes(health, HealthCheckResponse.SERVING)
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
            await _becomes(health, HealthCheckResponse.NOT_SERVING)
            await owner.execute(f'ALTER DATABASE "{database.name}" RESET default_transaction_read_only')
            await _becomes(health, HealthCheckResponse.SERVING)
    told = [line["problem"] for line in lines_of(core) if line["event"] == "readiness changed"]
    assert told[-2:] == [
        "the database takes no writes: it is a standby, or set to default_transaction_read_only",
        None,
    ]


async def test_a_token_is_had_before_the_first_payment_and_once_for_all_processes(grounds: Grounds) -> None:
    async with grounds.site.running_core() as first, grounds.site.running_core() as second:
        assert (await grounds.simulator.ledger())["tokens_issued"] == 1
        for core in (first, second):
            assert core.ready["not_ready_for_payments"] is None
            async with channel(core.address) as calls:
                await _becomes(health_pb2_grpc.HealthStub(calls), HealthCheckResponse.SERVING)


async def test_a_service_opens_more_descriptors_than_the_usual_soft_limit_and_tells_prometheus(
    grounds: Grounds,
) -> None:
    page = f"127.0.0.1:{find_free_port()}"
    with soft_limit(1_024) as hard:
        async with grounds.site.running_core(metrics_address=page, watchers_max=2_000) as core:
            assert resource.prlimit(core.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
            assert 'service_name="payment-service"' in await read_page(page)


async def test_credentials_that_daraja_refuses_are_one_sentence_at_the_start(grounds: Grounds) -> None:
    with pytest.raises(AssertionError) as ended:
        async with grounds.site.running_core(daraja_consumer_secret="another-secret"):
            pass
    said = str(ended.value)
    host = grounds.site.simulator_url.removeprefix("http://")
    assert f"Daraja at {host} refuses PAYMENTS_DARAJA_CONSUMER_KEY and PAYMENTS_DARAJA_CONSUMER_SECRET" in said
    assert "another-secret" not in said
    assert "Traceback" not in said


async def test_each_app_is_proven_at_the_start_and_each_shortcode_is_called_as_its_own(
    grounds: Grounds, tmp_path: Path
) -> None:
    site = grounds.site
    listed = json.loads((site.folder / "shortcodes.json").read_text())
    own = {"consumer_key_file": "coast-key", "consumer_secret_file": "coast-secret"}
    listed.append({"number": "600998", "kind": "PAYBILL", "passkey": "development-passkey", **own})
    (site.folder / "shortcodes.json").write_text(json.dumps(listed))
    for name, value in (("coast-key", "the-coast-key"), ("coast-secret", "another-secret")):
        (site.folder / name).write_text(value)
        (site.folder / name).chmod(0o600)
    async with running_simulator(tmp_path, "--app=600998=the-coast-key:the-coast-secret") as simulator:
        site = replace(site, simulator_url=simulator.ready["url"])
        with pytest.raises(AssertionError) as ended:
            async with site.running_core():
                pass
        said = str(ended.value)
        assert "refuses consumer_key_file and consumer_secret_file of shortcode 600998" in said
        assert "refuses PAYMENTS_DARAJA_CONSUMER_KEY" not in said, "the default app is in order"
        assert "the-coast-key" not in said
        (site.folder / "coast-secret").write_text("the-coast-secret")
        async with site.running_core() as core, channel(core.address) as calls:
            payments = PaymentServiceStub(calls)
            for shortcode in ("174379", "600998"):
                started = await prompt(payments, a_phone(), shortcode=shortcode)
                assert status_of(started.payment) in ("PROCESSING", "COMPLETED"), shortcode
            assert "the-coast" not in core.log.read_text()


async def test_a_start_without_daraja_takes_callbacks_and_is_ready_for_payments_once_daraja_answers(
    grounds: Grounds, database: Database, tmp_path: Path
) -> None:
    port = find_free_port()
    site = replace(grounds.site, simulator_url=f"http://127.0.0.1:{port}")
    async with (
        site.running_core() as core,
        site.running_gateway(core.address, grounds.edge_address),
        channel(core.address) as calls,
    ):
        health = health_pb2_grpc.HealthStub(calls)
        assert core.ready["not_ready_for_payments"] == "Daraja has given no access token yet"
        assert (await health.Check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING
        await _becomes(health, HealthCheckResponse.SERVING, CALLBACKS)
        # A payment from before, whose callback comes now.
        push = {"callback_url": await _callback_url_of_a_payment(site, calls)}
        assert await grounds.post_callback(push, b'{"Body":{"stkCallback":{}}}') == 200
        assert (await rows_of(database, "SELECT count(*) FROM callback_inbox"))[0][0] == 1
        assert (await grounds.edge.get("/readyz")).status_code == 200
        async with running_simulator(tmp_path, f"--port={port}"):
            await _becomes(health, HealthCheckResponse.SERVING)
    told = [(line["event"], line.get("why")) for line in lines_of(core) if line.get("alarm") == "no_first_token"]
    assert told == [("alarm", "NOT_CONNECTED"), ("alarm is over", None)]


async def test_a_daraja_whose_name_does_not_resolve_is_named_at_the_start(grounds: Grounds) -> None:
    # Longer than a name can be, so that it is refused at once also where no resolver answers.
    daraja = f"https://{'daraja.' * 40}invalid"
    async with grounds.site.running_core(
        daraja_base_url=daraja, callback_base_url="https://pay.example.org", queries_per_minute=60
    ) as core:
        assert core.ready["not_ready_for_payments"] == "Daraja has given no access token yet"
    told = [(line["why"], line["daraja"]) for line in lines_of(core) if line.get("alarm") == "no_first_token"]
    assert told == [("NAME_NOT_FOUND", daraja)]


async def test_a_start_with_other_keys_is_refused_and_a_rotated_key_is_not(
    grounds: Grounds, database: Database, tmp_path: Path
) -> None:
    async with grounds.site.running_core():
        pass
    others, rotated = tmp_path / "others.json", tmp_path / "rotated.json"
    create_keys(others)
    content = json.loads((grounds.site.folder / "keys.json").read_text())
    content["fingerprint"] = {"current": "2", "keys": content["fingerprint"]["keys"] | {"2": "ab" * 32}}
    with pytest.raises(AssertionError) as ended:
        async with grounds.site.running_core(keys_file=others):
            pass
    assert "The sealing key '1' in PAYMENTS_KEYS_FILE is not the one" in str(ended.value)
    assert "Traceback" not in str(ended.value)
    engine = read_engine(database.application_url)

    async def a_start_with_the_rotated_ones() -> None:
        rotated.write_text(json.dumps(content))
        keys = load_keys(rotated)
        await check_keys(engine, keys)
        await remember_keys(engine, keys)

    try:
        await a_start_with_the_rotated_ones()
        content["fingerprint"]["keys"]["2"] = "cd" * 32
        with pytest.raises(StartRefused, match="The fingerprint key '2' in PAYMENTS_KEYS_FILE is not the one"):
            await a_start_with_the_rotated_ones()
        content["fingerprint"] = {"current": "3", "keys": {"3": "ef" * 32}}
        with pytest.raises(StartRefused, match="has none of the fingerprint keys"):
            await a_start_with_the_rotated_ones()
    finally:
        await engine.dispose()
    assert len(await rows_of(database, "SELECT * FROM key_checks")) == 5


async def test_a_list_of_callers_without_one_whose_payments_still_matter_is_refused(
    writers: Writers, database: Database
) -> None:
    engine = read_engine(database.application_url)
    try:
        await check_callers(engine, {"booking"})
        for caller in ("agency", "booking", "development"):
            await writers.create(caller, a_request(), None, None)
        with pytest.raises(StartRefused, match=r"lacks agency, development, whose.*\"name\": \"agency\"") as refused:
            await check_callers(engine, {"booking"})
        assert "PAYMENTS_CALLERS_FILE" in str(refused.value)
        await check_callers(engine, {"agency", "booking", "development"})
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            for created, held in (("now() - interval '23 hours'", True), ("now() - interval '25 hours'", False)):
                await owner.execute(f"UPDATE payment_transactions SET due_at = NULL, created_at = {created}")
                with pytest.raises(StartRefused) if held else contextlib.nullcontext():
                    await check_callers(engine, {"booking"})
    finally:
        await engine.dispose()


async def test_a_database_from_before_the_check_values_proves_the_keys_by_a_payment(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    engine = read_engine(database.application_url)
    try:
        await writers.create("development", a_request(), None, None)
        create_keys(tmp_path / "others.json")
        others = load_keys(tmp_path / "others.json")
        for purpose in PURPOSES:
            with pytest.raises(StartRefused, match=f"The {purpose} key in PAYMENTS_KEYS_FILE is not the one"):
                await check_keys(engine, replace(writers.keys, **{purpose: getattr(others, purpose)}))
        assert await rows_of(database, "SELECT * FROM key_checks") == []
        await check_keys(engine, writers.keys)
        await remember_keys(engine, writers.keys)
        with pytest.raises(StartRefused, match="The sealing key '1' in PAYMENTS_KEYS_FILE is not the one"):
            await remember_keys(engine, load_keys(tmp_path / "others.json"))
    finally:
        await engine.dispose()


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


async def _callback_url_of_a_payment(site: Site, calls: grpc.aio.Channel) -> str:
    """Of one that has been asked for, and whose prompt waits for a token."""
    payment = (await initiate(PaymentServiceStub(calls), a_phone())).payment
    keys = load_callback_keys(site.folder / "callback-keys.json")
    return site.gateway_url + callback_path(keys, "stk", payment.reference)


def lines_of(program: Process) -> list[dict[str, Any]]:
    """What a program has logged."""
    return [json.loads(line) for line in program.log.read_text().splitlines()]


async def _becomes(health: health_pb2_grpc.HealthStub, status: int, service: str = "") -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await health.Check(HealthCheckRequest(service=service))).status == status:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)
