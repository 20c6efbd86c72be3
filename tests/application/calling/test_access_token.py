"""One token for all processes: two independent instances on one real database, a simulator that kills the old token.

An instance is what a process has: its own engine, its own copy of the token, its own HTTP connections.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import text

from daraja_simulator.settings import SANDBOX_PASSKEY
from development.slowness import slowness
from payment_service.application.calling.access_token import (
    AccessToken,
    NoAccessToken,
    Token,
    TokenTimes,
    get_token,
    token_refused,
)
from payment_service.daraja.push import Accepted, push
from payment_service.daraja.sending import NotSent
from payment_service.daraja.shortcodes import PushRequest, Shortcode, ShortcodeKind
from payment_service.security.keys import create_keys, load_keys
from payment_service.security.sealing import Sealer
from payment_service.store.access_token import find_token, store_token, take_lease
from tests.application.calling.stage import APP, TIMES, Stage
from tests.patience import PATIENCE_SECONDS

REQUEST = PushRequest(
    Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY),
    "254722000556",
    5,
    "BCDF",
    "http://127.0.0.1:9/stk",
    "Fare",
)


async def works(tokens: AccessToken, token: Token) -> bool:
    """Whether Daraja takes a push with this token; a refusal is reported."""
    answer, _ = await push(tokens.daraja, token.value, REQUEST)
    if isinstance(answer, NotSent) and answer.token_refused:
        token_refused(tokens, token.generation)
        return False
    assert isinstance(answer, Accepted) or "PHONE_BUSY" in repr(answer)
    return True


async def test_fifty_at_once_in_two_instances_ask_daraja_once(stage: Stage) -> None:
    got = await asyncio.gather(*(get_token(tokens) for tokens in [stage.first, stage.second] * 25))
    assert {token.value for token in got} == {token.value for token in stage.world.tokens.living.values()}
    assert {token.generation for token in got} == {1}
    assert stage.tokens_issued == 1
    assert [exchange.classified_as for exchange in stage.kept] == ["TokenIssued"]


async def test_the_token_lies_sealed_in_the_database_and_is_read_from_memory(stage: Stage) -> None:
    token = await get_token(stage.first)
    async with stage.first.engine.begin() as conn:
        row = str((await conn.execute(text("SELECT * FROM daraja_access_token"))).one())
        assert token.value not in row
        await conn.execute(text("UPDATE daraja_access_token SET generation = 99"))
    assert (await get_token(stage.first)).generation == 1


async def test_after_fifty_minutes_it_is_renewed_once_while_the_old_one_goes_on(stage: Stage) -> None:
    old = await get_token(stage.first)
    assert await get_token(stage.second) == old
    stage.clock.now += timedelta(minutes=49)
    assert await get_token(stage.first) == old
    stage.clock.now += timedelta(minutes=1)
    # Nobody waits for the renewal.
    assert [await get_token(stage.first), await get_token(stage.second)] == [old, old]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {stage.first.held, stage.second.held} & {old}:
            await asyncio.sleep(0.05)
            stage.clock.now += TIMES.pause_after_failure
            await asyncio.gather(get_token(stage.first), get_token(stage.second))
    assert stage.tokens_issued == 2
    assert stage.first.held == stage.second.held
    assert stage.first.held is not None
    assert stage.first.held.generation == 2


async def test_a_refusal_renews_the_token_once_for_everybody(stage: Stage) -> None:
    old = await get_token(stage.first)
    assert await get_token(stage.second) == old
    stage.world.tokens.living.clear()

    async def send(tokens: AccessToken) -> None:
        if not await works(tokens, old):
            assert await works(tokens, await get_token(tokens))

    await asyncio.gather(*(send(tokens) for tokens in [stage.first, stage.second] * 10))
    assert stage.tokens_issued == 2
    # News of the old one that comes late changes nothing.
    token_refused(stage.first, old.generation)
    assert (await get_token(stage.first)).generation == 2
    assert stage.tokens_issued == 2


async def test_a_refusal_of_what_another_instance_has_renewed_only_reads_again(stage: Stage) -> None:
    old = await get_token(stage.first)
    await get_token(stage.second)
    token_refused(stage.first, old.generation)
    new = await get_token(stage.first)
    assert not await works(stage.second, old)
    assert await get_token(stage.second) == new
    assert stage.tokens_issued == 2


async def test_a_second_refusal_right_after_raises_an_alarm_and_waits(stage: Stage) -> None:
    token_refused(stage.first, (await get_token(stage.first)).generation)
    with structlog.testing.capture_logs() as lines:
        token_refused(stage.first, (await get_token(stage.first)).generation)
        for _ in range(20):
            with pytest.raises(NoAccessToken, match="REFUSED_TWICE"):
                await get_token(stage.first)
    assert [(line["event"], line["alarm"]) for line in lines] == [("alarm", "token_refused")]
    assert stage.tokens_issued == 2
    stage.clock.now += TIMES.refusal_pause
    assert await works(stage.first, await get_token(stage.first))
    assert stage.tokens_issued == 3


async def test_a_lease_holder_that_died_is_followed_by_another_after_the_lease(stage: Stage) -> None:
    now = stage.clock.now
    async with stage.first.engine.begin() as conn:
        assert await take_lease(conn, APP.key, lease_id=uuid4(), newer_than=0, now=now, until=now + TIMES.lease)
    waiting = asyncio.create_task(get_token(stage.first))
    await asyncio.sleep(0.3)
    assert (waiting.done(), stage.tokens_issued) == (False, 0)
    stage.clock.now += TIMES.lease
    assert (await waiting).generation == 1
    assert stage.tokens_issued == 1


async def test_waiting_for_a_lease_holder_that_never_ends_is_bounded(stage: Stage) -> None:
    now = stage.clock.now
    async with stage.first.engine.begin() as conn:
        await take_lease(conn, APP.key, lease_id=uuid4(), newer_than=0, now=now, until=now + timedelta(hours=1))
    stage.first.times = TokenTimes(wait=timedelta(seconds=0.3), poll=timedelta(milliseconds=20))
    with pytest.raises(NoAccessToken, match="NO_TOKEN_IN_TIME"):
        await get_token(stage.first)
    assert stage.tokens_issued == 0


async def test_what_a_late_lease_holder_brings_is_not_stored(stage: Stage) -> None:
    now, late, lease = stage.clock.now, uuid4(), TIMES.lease
    async with stage.first.engine.begin() as conn:
        assert await take_lease(conn, APP.key, lease_id=late, newer_than=0, now=now, until=now + lease)
        assert not await take_lease(conn, APP.key, lease_id=uuid4(), newer_than=0, now=now, until=now + lease)
    stage.clock.now += lease
    new = await get_token(stage.second)
    times = {"fetched_at": now, "refresh_at": now + timedelta(minutes=50), "expires_at": now + timedelta(hours=1)}
    async with stage.first.engine.begin() as conn:
        assert await store_token(conn, APP.key, lease_id=late, sealed=b"late", **times) is None
        stored = await find_token(conn, APP.key)
    assert stored is not None
    assert (stored.generation, stored.sealed != b"late") == (1, True)
    assert await get_token(stage.first) == new


async def test_a_failure_is_told_to_everybody_who_waits_and_not_repeated_in_a_hurry(stage: Stage) -> None:
    stage.world.tokens.request_faults.append("invalid_authentication")
    failed = await asyncio.gather(*(get_token(stage.first) for _ in range(5)), return_exceptions=True)
    assert [repr(error) for error in failed] == ["CredentialsRefused('400.008.01')"] * 5
    stage.first.times = TokenTimes(wait=timedelta(seconds=0.2), poll=timedelta(milliseconds=20))
    with pytest.raises(NoAccessToken, match="NO_TOKEN_IN_TIME"):
        await get_token(stage.first)
    stage.first.times = TIMES
    assert stage.tokens_issued == 1
    assert stage.first.renewing is not None
    await asyncio.wait([stage.first.renewing])
    stage.clock.now += TIMES.pause_after_failure
    assert (await get_token(stage.first)).generation == 1
    assert [exchange.classified_as for exchange in stage.kept] == ["TokenUnavailable 400.008.01", "TokenIssued"]


async def test_a_renewal_that_fails_leaves_the_old_token_in_use_while_it_lives(stage: Stage) -> None:
    old = await get_token(stage.first)
    stage.clock.now += timedelta(minutes=51)
    stage.world.tokens.request_faults.extend(["internal_error"] * 100)
    assert await get_token(stage.first) == old
    assert stage.first.renewing is not None
    await stage.first.renewing
    # An instance that has just started takes the old one as well.
    assert await get_token(stage.second) == old
    stage.clock.now += timedelta(minutes=9)
    with pytest.raises(NoAccessToken):
        await get_token(stage.first)


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(stage: Stage) -> None:
    callers = [asyncio.create_task(get_token(stage.first)) for _ in range(3)]
    while stage.first.renewing is None:
        await asyncio.sleep(0.01)
    callers[0].cancel()
    tokens = await asyncio.gather(*callers[1:])
    assert {token.generation for token in tokens} == {1}
    assert stage.tokens_issued == 1


async def test_a_token_sealed_with_another_key_is_replaced(stage: Stage, tmp_path: Path) -> None:
    await get_token(stage.first)
    create_keys(tmp_path / "others.json")
    stage.second.sealer = Sealer(load_keys(tmp_path / "others.json"))
    assert (await get_token(stage.second)).generation == 2


async def test_no_transaction_is_open_while_daraja_is_asked(stage: Stage) -> None:
    stage.world.settings = replace(stage.world.settings, latency_seconds=2 * slowness())
    getting = asyncio.create_task(get_token(stage.first))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not stage.tokens_issued:
            await asyncio.sleep(0.005)
    async with stage.second.engine.begin() as conn:
        open_ones = await conn.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
        )
        assert (open_ones.scalar_one(), getting.done()) == (0, False)
    assert (await getting).generation == 1
