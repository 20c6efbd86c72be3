"""What Daraja answers to a push: sent again only when nobody was reached, and never when somebody may have been."""

from __future__ import annotations

import asyncio
import json

from conformance.account import Account, Seen
from conformance.caller import has_reason, has_status, reason_of, status_of
from conformance.installation import Installation
from conformance.judgement import expect
from conformance.running import case, case_alone
from conformance.simulator import UNTIL_TOLD, a_number
from development.slowness import slowness

NONSENSE = (
    {"status": 200, "body": '{"ResponseCode":"0"}'},
    {"status": 200, "body": '{"ResponseCode":"1","MerchantRequestID":"a","CheckoutRequestID":"b"}'},
    {"status": 200, "body": "[" * 20_000},
    {"status": 200, "body": "<html><body>Welcome</body></html>"},
    {"status": 200, "body": ""},
)


async def settled_by_callback(town: Installation, **answer: object) -> Account:
    """The phone has the prompt, the answer proves nothing, and the callback says what became of it."""
    phone = await town.simulator.phone({**UNTIL_TOLD, **answer, "prompts": True})
    account = await confirmed_by_callback(town, phone)
    path = "PENDING → PROCESSING → COMPLETED"
    return account.must(path=path, action="CONFIRM", pushes=1, prompts=1, debited=500)


async def confirmed_by_callback(town: Installation, phone: str) -> Account:
    """Nobody knows what became of the push; then its callback comes."""
    started = await town.first.initiate(phone)
    await town.first.followed(started, has_reason("CONFIRMING"), "CONFIRMING")
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    expect("the reason before the end", reason_of(account.events[-2].payment), "CONFIRMING")
    return account


async def sent_again(town: Installation, error: str) -> Account:
    """The first push reached nobody, the second the phone."""
    account = await town.lived(await town.simulator.phone({"error": error}))
    return account.must(status="COMPLETED", action="CONFIRM", pushes=2, prompts=1, debited=500)


@case
async def system_is_busy(town: Installation) -> Seen:
    """The push is answered "System is busy", and the phone rings all the same."""
    return (await settled_by_callback(town, error="system_busy")).seen("CONFIRMING in between")


@case
async def spike_arrest(town: Installation) -> Seen:
    """The push is answered "Spike Arrest Violation": it went no further than Safaricom's edge."""
    return (await sent_again(town, "spike_arrest")).seen()


@case
async def page_of_the_edge(town: Installation) -> Seen:
    """The push is answered with the firewall's page: with HTTP 403 it reached nobody, with 503 the phone rings."""
    refused = sent_again(town, "incapsula_403")
    account, _ = await asyncio.gather(refused, settled_by_callback(town, error="incapsula_503"))
    return account.seen("with 503 CONFIRMING until the callback")


@case
async def page_of_nobody_in_particular(town: Installation) -> Seen:
    """The push is answered with somebody's HTML page, as HTTP 502 and 504; the phone rings."""
    errors = ("bad_gateway_502", "gateway_timeout_504")
    accounts = await asyncio.gather(*(settled_by_callback(town, error=error) for error in errors))
    return accounts[0].seen("the same for both pages")


@case
async def nonsense_with_200(town: Installation) -> Seen:
    """The push is answered HTTP 200 with five kinds of nonsense; the phone rings."""
    accounts = await asyncio.gather(*(settled_by_callback(town, raw_answer=answer) for answer in NONSENSE))
    return accounts[0].seen(f"the same for all {len(NONSENSE)}")


@case
async def refused_by_the_phone(town: Installation) -> Seen:
    """Another prompt is open on the phone, so Safaricom refuses the push."""
    account = await town.lived(a_number("911"))
    account.must(path="PENDING → FAILED", reason="PHONE_BUSY", action="OFFER_RETRY", certain=True, pushes=1, prompts=0)
    return account.seen()


@case
async def answer_later_than_the_caller_waits(town: Installation) -> Seen:
    """The answer to the push takes longer than the 5 s that the caller waits."""
    phone = await town.simulator.phone({**UNTIL_TOLD, "answer_delay_seconds": 5 + slowness()})
    started = await town.first.initiate(phone)
    expect("what the caller is answered", status_of(started.payment), "PENDING")
    await town.first.followed(started, has_status("PROCESSING"), "the answer to the push")
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen("answered PENDING after 5 s")


@case
async def token_is_dead_by_its_rarest_code(town: Installation) -> Seen:
    """The push is answered with the rarest of the known ways to say that the token is dead."""
    return (await sent_again(town, "invalid_access_token_401_001")).seen()


@case
async def refusals_in_another_spelling(town: Installation) -> Seen:
    """A refusal with a long dash and a spike arrest with a spelling mistake: neither rings a phone."""
    refusal = {"errorCode": "400.002.02", "errorMessage": "Bad Request – Invalid Amount", "requestId": "1-2-3"}
    spike = {"errorCode": "500.003.02", "errorMessage": "Error Occured: Spike Arrest Violation", "requestId": "1-2-3"}
    refused_phone = await town.simulator.phone({"raw_answer": {"status": 400, "body": json.dumps(refusal)}})
    spiked_phone = await town.simulator.phone({"raw_answer": {"status": 500, "body": json.dumps(spike)}})
    refused, spiked = await asyncio.gather(town.lived(refused_phone), town.lived(spiked_phone))
    refused.must(path="PENDING → FAILED", certain=True, pushes=1, prompts=0, debited=0)
    spiked.must(status="COMPLETED", action="CONFIRM", pushes=2, prompts=1, debited=500)
    return refused.seen("the other: COMPLETED, CONFIRM", "the other: 2 pushes, 1 prompt, KES 500 paid")


@case_alone
async def token_killed_by_another_app(arena: Installation) -> Seen:
    """Somebody else fetches a token, which ends ours; then six passengers are asked through two processes."""
    await arena.lived(a_number())
    before = (await arena.simulator.shown("totals"))["tokens_issued"]
    stolen = await arena.simulator.http.get(
        "/oauth/v1/generate",
        params={"grant_type": "client_credentials"},
        auth=("development-consumer-key", "development-consumer-secret"),
    )
    expect("the answer to the other app", stolen.status_code, 200)
    accounts = await asyncio.gather(*(arena.lived(a_number(), by=c) for c in [arena.first, arena.second] * 3))
    for account in accounts:
        account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    issued = (await arena.simulator.shown("totals"))["tokens_issued"] - before
    expect("tokens issued: the other app's and one of ours", issued, 2)
    return Seen("6 × COMPLETED, CONFIRM", "6 × 1 prompt, KES 500 paid; 1 new token for all processes")
