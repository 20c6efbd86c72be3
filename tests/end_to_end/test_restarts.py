"""Programs that stop, crash and come back: nothing acknowledged is lost, and no prompt is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio
import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import find_free_port
from development.slowness import slowness
from tests.application.following.reading import rest_of
from tests.end_to_end.town import (
    PATIENT_TIMES,
    UNTIL_TOLD,
    Grounds,
    a_phone,
    a_request,
    action_of,
    events_to_the_end,
    get,
    initiate,
    lived,
    payment_when,
    prompt,
    reason_of,
    status_of,
    told_by,
    until,
)
from tests.parts import Process, channel
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.answers import refusal_of

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Core:
    """A running payment service and a client of it."""

    process: Process
    payments: PaymentServiceStub


@contextlib.asynccontextmanager
async def running(grounds: Grounds, listen: str = "127.0.0.1:0", **settings: object) -> AsyncIterator[Core]:
    settings = {**PATIENT_TIMES, **settings}
    async with grounds.site.running_core(listen, **settings) as process, channel(process.address) as client:
        yield Core(process, PaymentServiceStub(client))


async def state_in(grounds: Grounds, request: pb.InitiatePaymentRequest) -> tuple[str, int] | None:
    """State and version of a request's payment as the database has it."""
    query = "SELECT state, version FROM payment_transactions WHERE request_id = %s"
    rows = await rows_of(grounds.database, query, (request.request_id,))
    return (rows[0][0], rows[0][1]) if rows else None


async def failed_token_request(grounds: Grounds) -> None:
    """Wait until a request for a token has failed. Before that its process holds the lease to fetch one, and killed
    with it would keep the others waiting until it runs out."""

    async def look() -> bool | None:
        return bool(await rows_of(grounds.database, "SELECT 1 FROM daraja_exchanges")) or None

    await until(look, "the record of a token request")


async def state_becomes(grounds: Grounds, request: pb.InitiatePaymentRequest, state: str) -> None:
    async def look() -> bool | None:
        found = await state_in(grounds, request)
        return (found is not None and found[0] == state) or None

    await until(look, f"{state} in the database")


async def test_a_stop_with_a_push_on_the_wire_finishes_it_and_answers_its_caller(grounds: Grounds) -> None:
    phone = a_phone()
    # Time for the stop to begin.
    await grounds.simulator.script(phone, {"answer_delay_seconds": 2 * slowness(), "callback": "never"})
    request = a_request(phone)
    async with running(grounds) as core:
        call = asyncio.ensure_future(core.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS))
        await grounds.simulator.prompted(phone)
        assert await state_in(grounds, request) == ("SENDING", 2)
        await core.process.stop()
        answered = await call
    # PENDING on a machine so slow that the 5 s for which the caller waits were over before.
    assert status_of(answered.payment) in ("PENDING", "PROCESSING")
    assert await state_in(grounds, request) == ("PROMPTED", 3)
    async with running(grounds) as again:
        found = await get(again.payments, answered.payment.payment_id)
        assert (status_of(found), found.version) == ("PROCESSING", 3)
        replay = await again.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS)
        assert (replay.replayed, replay.payment) == (True, found)
    assert len(await grounds.simulator.pushes(phone=phone)) == 1


async def test_a_stop_ends_streams_with_a_cursor_and_a_resumed_watch_misses_nothing(grounds: Grounds) -> None:
    """Goal: a watcher that resumes after a restart has every event once and in order, also those that another process
    wrote while its own was away."""
    everything = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    seen: list[payment_pb2.PaymentEvent] = []
    async with running(grounds) as other:
        async with running(grounds) as core, gateway(grounds, other):
            first = await lived(grounds, core.payments, a_phone())
            watch = core.payments.WatchPayments(everything)
            async for message in watch:
                seen += message.events
                if len(seen) == len(first.events):
                    break
            core.process.process.send_signal(signal.SIGTERM)
            messages, error = await rest_of(aiter(watch))
            assert error is not None
            assert messages[-1].cursor
            cursor = messages[-1].cursor
            seen += [event for message in messages for event in message.events]
            refusal = refusal_of(error)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_DRAINING")
            assert await asyncio.wait_for(core.process.process.wait(), PATIENCE_SECONDS) == 0
            second = await lived(grounds, other.payments, a_phone())
        async with running(grounds) as core:
            resumed = core.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=cursor), timeout=PATIENCE_SECONDS)
            expected = first.events + second.events
            async for message in resumed:
                seen += message.events
                if len(seen) >= len(expected):
                    break
    assert seen == expected


@contextlib.asynccontextmanager
async def gateway(grounds: Grounds, core: Core, **settings: object) -> AsyncIterator[Process]:
    async with grounds.site.running_gateway(core.process.address, grounds.edge_address, **settings) as process:
        yield process


async def test_a_callback_while_the_core_is_away_is_accepted_and_settles_the_payment_when_it_is_back(
    grounds: Grounds,
) -> None:
    phone, listen = a_phone(), f"127.0.0.1:{find_free_port()}"
    await grounds.simulator.script(phone, UNTIL_TOLD)
    async with contextlib.AsyncExitStack() as stack:
        async with running(grounds, listen) as core, gateway(grounds, core) as killed:
            started = await prompt(core.payments, phone)
            await core.process.kill()
            assert await grounds.simulator.settle(phone, ending="paid") == [200]
            assert (await grounds.edge.get("/readyz")).status_code == 200
            await killed.kill()
        again = await stack.enter_async_context(running(grounds, listen))
        assert status_of(await get(again.payments, started.payment.payment_id)) == "PROCESSING"
        await stack.enter_async_context(gateway(grounds, again))
        story = await told_by(grounds, again.payments, await events_to_the_end(again.payments, started))
        assert (story.path[-1], story.prompts, story.debited) == ("COMPLETED", 1, 500)


async def test_without_a_spool_such_a_callback_is_answered_503_and_stored_when_it_comes_again(
    grounds: Grounds,
) -> None:
    phone, listen = a_phone(), f"127.0.0.1:{find_free_port()}"
    await grounds.simulator.script(phone, UNTIL_TOLD)
    async with contextlib.AsyncExitStack() as stack:
        async with running(grounds, listen) as core:
            await stack.enter_async_context(gateway(grounds, core, spool_folder="", spool_keys_file=""))
            started = await prompt(core.payments, phone)
        assert await grounds.simulator.settle(phone, ending="paid") == [503]
        assert (await grounds.edge.get("/readyz")).status_code == 503
        assert (await grounds.edge.get("/healthz")).status_code == 200
        again = await stack.enter_async_context(running(grounds, listen))
        assert status_of(await get(again.payments, started.payment.payment_id)) == "PROCESSING"

        async def stored() -> bool | None:
            answer = await grounds.simulator.control("callbacks/resend", phone=phone)
            assert answer["callbacks"][0]["status"] in (200, 503)
            return answer["callbacks"][0]["status"] == 200 or None

        await until(stored, "200 for the callback")
        story = await told_by(grounds, again.payments, await events_to_the_end(again.payments, started))
        assert (story.path[-1], story.prompts, story.debited) == ("COMPLETED", 1, 500)
        assert action_of(story.payment) == "CONFIRM"


async def test_a_payment_whose_process_died_before_sending_is_sent_once_by_another(grounds: Grounds) -> None:
    """Method: no token can be had, so the row stays CREATED with its process alive; that process is killed, tokens
    come back, and two other processes find the orphan at the same time."""
    phone = a_phone()
    request = a_request(phone)
    await grounds.simulator.control("tokens/fail", error="internal_error", count=1_000)
    patient = 60 * slowness()
    async with running(grounds, send_within_s=patient) as doomed:
        call = asyncio.ensure_future(doomed.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS))
        await state_becomes(grounds, request, "CREATED")
        await failed_token_request(grounds)
        await doomed.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert await grounds.simulator.pushes() == []
    await grounds.simulator.control("reset")
    await grounds.simulator.script(phone, UNTIL_TOLD)
    async with (
        running(grounds, send_within_s=patient) as core,
        running(grounds, send_within_s=patient),
        gateway(grounds, core),
    ):
        replay = await core.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS)
        assert replay.replayed
        await grounds.simulator.prompted(phone)
        assert await grounds.simulator.settle(phone, ending="paid") == [200]
        story = await told_by(grounds, core.payments, await events_to_the_end(core.payments, replay))
        assert (story.path[-1], len(story.pushes), story.prompts, story.debited) == ("COMPLETED", 1, 1, 500)


async def test_a_payment_that_nobody_could_send_in_time_fails_and_no_phone_rings(grounds: Grounds) -> None:
    await grounds.simulator.control("tokens/fail", error="internal_error", count=1_000)
    async with running(grounds, send_within_s=2) as core:
        story = await lived(grounds, core.payments, a_phone())
        assert story.path == ["PENDING", "FAILED"]
        assert (reason_of(story.payment), action_of(story.payment)) == ("NOT_SENT", "OFFER_RETRY")
        await grounds.simulator.control("reset")
        paid = await initiate(core.payments, a_phone(), booking_id=story.payment.booking_id)
        assert paid.payment.attempt == 2
        assert await grounds.simulator.pushes(account_reference=story.payment.reference) == []


async def test_a_push_whose_process_died_is_never_sent_again_and_its_callback_settles_it(grounds: Grounds) -> None:
    phone = a_phone()
    await grounds.simulator.script(phone, {"answer_delay_seconds": 30, "callback": "never"})
    request = a_request(phone)
    async with running(grounds, lease_s=3 * slowness() + 3, push_timeout_s=3 * slowness()) as doomed:
        call = asyncio.ensure_future(doomed.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS))
        await grounds.simulator.prompted(phone)
        await doomed.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert await state_in(grounds, request) == ("SENDING", 2)
    async with running(grounds) as core, running(grounds), gateway(grounds, core):
        replay = await core.payments.InitiatePayment(request, timeout=PATIENCE_SECONDS)
        assert replay.replayed
        uncertain = await payment_when(
            core.payments,
            replay.payment.payment_id,
            lambda payment: reason_of(payment) == "CONFIRMING",
            "the end of the dead process's lease",
        )
        assert (status_of(uncertain), uncertain.version) == ("PROCESSING", 3)
        assert await grounds.simulator.settle(phone, ending="paid") == [200]
        story = await told_by(grounds, core.payments, await events_to_the_end(core.payments, replay))
        assert (story.path[-1], len(story.pushes), story.prompts, story.debited) == ("COMPLETED", 1, 1, 500)
        assert await grounds.cases(story.payment) == []


async def test_a_token_killed_by_another_user_of_the_app_is_renewed_once_and_the_push_goes_out(
    grounds: Grounds,
) -> None:
    async with running(grounds) as one, running(grounds) as two, gateway(grounds, one):
        await lived(grounds, one.payments, a_phone())
        await lived(grounds, two.payments, a_phone())
        assert (await grounds.simulator.ledger())["tokens_issued"] == 1, "processes share one token"
        answer = await grounds.simulator.http.get(
            "/oauth/v1/generate",
            params={"grant_type": "client_credentials"},
            auth=("development-consumer-key", "development-consumer-secret"),
        )
        assert answer.status_code == 200
        stories = await asyncio.gather(
            *(lived(grounds, core.payments, a_phone()) for core in (one, two) for _ in range(3))
        )
        for story in stories:
            assert (story.path[-1], len(story.pushes), story.prompts, story.debited) == ("COMPLETED", 1, 1, 500)
        ledger = await grounds.simulator.ledger()
        assert ledger["tokens_issued"] == 3, "the other user's token, and one more for all processes"
        refused = [push for push in ledger["pushes"] if push["outcome"] != "accepted"]
        assert 1 <= len(refused) <= len(stories)
        assert not any(push["prompted"] for push in refused)
