"""What callbacks bring: results with the right next step, and contradictions that nobody believes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from conformance.account import Account, Seen
from conformance.bodies import success_body, with_one_defect
from conformance.caller import Started, has_action, has_reason, has_status
from conformance.installation import Installation
from conformance.judgement import expect, until
from conformance.running import case
from conformance.simulator import NO_NEWS, UNTIL_TOLD, a_number

REFUSALS = {
    "201": ("FAILED", "WRONG_PIN"),
    "001": ("FAILED", "INSUFFICIENT_FUNDS"),
    "032": ("CANCELLED", "DECLINED_BY_CUSTOMER"),
}


@case
async def wrong_pin_no_funds_cancelled(town: Installation) -> Seen:
    """One passenger mistypes the PIN, one has no money, one cancels."""
    accounts = await asyncio.gather(*(town.lived(a_number(ends)) for ends in REFUSALS))
    for account, (status, reason) in zip(accounts, REFUSALS.values(), strict=True):
        account.must(status=status, reason=reason, action="OFFER_RETRY", certain=True, prompts=1, debited=0)
    said = "; ".join(f"{status}, {reason}" for status, reason in REFUSALS.values())
    return Seen(f"{said}; OFFER_RETRY each", "3 × 1 prompt, nothing paid")


@case
async def code_on_no_list(town: Installation) -> Seen:
    """The callback brings a result code that nobody knows; later the money moves."""
    phone = a_number("777")
    started = await town.first.initiate(phone)
    unknown = await town.account(started, has_reason("CONFIRMING"))
    unknown.must(status="PROCESSING", action="WAIT", certain=False, debited=0)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    return account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500).seen("CONFIRMING in between")


@case
async def ids_of_another_payment(town: Installation) -> Seen:
    """A success comes to one payment's address with the ids of another payment."""
    other = await town.lived(a_number())
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    foreign = {
        "MerchantRequestID": other.ledger[0]["merchant_request_id"],
        "CheckoutRequestID": other.ledger[0]["checkout_request_id"],
    }
    await town.simulator.settle(phone, ending="paid", pays=False, callback_ids=foreign)
    account = await town.account(started, has_action("REVIEW"))
    account.must(status="PROCESSING", receipt="", prompts=1, debited=0)
    expect("the other payment", await town.first.get(other.payment.payment_id), other.payment)
    return account.seen("the other payment as it was")


@case
async def receipt_of_another_payment(town: Installation) -> Seen:
    """A success comes with the receipt number of another payment; then the true one."""
    other = await town.lived(a_number())
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    stolen = {"MpesaReceiptNumber": other.receipt}
    await town.simulator.settle(phone, ending="paid", pays=False, callback_items=stolen)
    (await town.account(started, has_action("REVIEW"))).must(status="PROCESSING", receipt="", debited=0)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started, has_status("COMPLETED"))
    expect("the other payment", await town.first.get(other.payment.payment_id), other.payment)
    return account.must(prompts=1, debited=500).seen("REVIEW before the true receipt")


@case
async def callbacks_that_disagree(town: Installation) -> Seen:
    """After the money: a cancellation, another receipt, another amount, all for the same prompt."""
    phone = a_number()
    account = await town.lived(phone)
    other = {"MpesaReceiptNumber": "ZZ99ZZ99ZZ"}
    answers = [
        await town.simulator.settle(phone, ending="cancelled"),
        await town.simulator.settle(phone, ending="paid", callback_items=other),
        await town.simulator.settle(phone, ending="paid", callback_items={"Amount": 5}),
    ]
    expect("answers to the callbacks", answers, [[200]] * 3)
    after = await town.account_of(account.payment, list(account.events))
    after.must(status="COMPLETED", action="CONFIRM", receipt=account.receipt, prompts=1, debited=500)
    expect("payments with the other receipt", await town.first.listed(mpesa_receipt_number="ZZ99ZZ99ZZ"), [])
    return after.seen("the first receipt stays")


@case
async def receipt_comes_later(town: Installation) -> Seen:
    """The callback says paid without a receipt number; a second one brings it."""
    phone = await town.simulator.phone({"callback_without": ["MpesaReceiptNumber"], "pull": "never"})
    # Or the receipt is asked for, where so much time has passed before the case looks.
    await town.simulator.control(f"phones/{phone}/statuses", behaviours=[{"result": "never"}] * 10)
    started = await town.first.initiate(phone)
    paid = await town.account(started, has_status("COMPLETED"))
    paid.must(reason="RECEIPT_PENDING", action="WAIT", receipt="", certain=False, debited=500)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    account.must(status="COMPLETED", action="CONFIRM", receipt_was_pending=True, late=False, prompts=1, debited=500)
    return account.seen("RECEIPT_PENDING, WAIT in between")


@case
async def odd_but_true(town: Installation) -> Seen:
    """The callback masks the phone, dates itself a day ahead, and writes the code and the amount as text."""
    odd = ["callback.phone_masked", "callback.date_future", "callback.code_string", "callback.amount_string"]
    account = await town.lived(await town.simulator.phone({"quirks": odd}))
    return account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500).seen()


@case
async def garbage_with_a_true_token(town: Installation) -> Seen:
    """Bodies that are empty, cut, nested 30,000 deep, or say two things are posted to the payment's true address."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    paid = b'{"Body":{"stkCallback":{"ResultCode":0}}}'
    bodies = [b"", b"0", paid[:-2], paid * 2, b"[" * 30_000, paid[:-3] + b',"ResultCode":1}}}', b"\xff\xfe", b"null"]
    answers = [(await town.edge.post(push["callback_url"], content=body)).status_code for body in bodies]
    expect("answers to the bodies", answers, [200] * len(bodies))
    expect("the payment afterwards", await town.first.get(started.payment.payment_id), started.payment)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"nothing of {len(bodies)} bodies, all kept with 200", "the real callback came last")


@case
async def one_defect_in_a_true_success(town: Installation) -> Seen:
    """Eight passengers pay. Each callback has one defect in a field that decides nothing, or tells one thing twice."""
    push, _ = await paid_unheard(town)
    defects = list(with_one_defect(push, push["receipt"]))

    async def told_with(defect: str) -> Account:
        push, started = await paid_unheard(town)
        answer = await town.edge.post(push["callback_url"], content=with_one_defect(push, push["receipt"])[defect])
        expect(f"the answer to {defect}", answer.status_code, 200)
        return await town.account(started)

    for account in await asyncio.gather(*(told_with(defect) for defect in defects)):
        account.must(status="COMPLETED", action="CONFIRM", certain=True, prompts=1, debited=500)
    return Seen(f"{len(defects)} × COMPLETED, CONFIRM", f"{len(defects)} × 1 prompt, KES 500 paid")


async def paid_unheard(town: Installation) -> tuple[dict[str, Any], Started]:
    """A push whose passenger has paid, and nobody has told of it yet."""
    phone = await town.simulator.phone({**NO_NEWS, "queries": ["being_processed"] * 100})
    started = await town.first.initiate(phone)

    async def paid() -> dict[str, Any] | None:
        return next((push for push in await town.simulator.pushes(phone=phone) if push["receipt"]), None)

    return await until(paid, "a payment of the passenger's"), started


@case
async def two_receipts_in_one_success(town: Installation) -> Seen:
    """A callback says paid and names two different receipts; then the true one comes."""
    push, started = await paid_unheard(town)
    true = success_body(push, push["receipt"])
    both = true.replace(b"]", b', {"Name": "MpesaReceiptNumber", "Value": "ZZ88ZZ88ZZ"}]')
    expect("the answer to two receipts", (await town.edge.post(push["callback_url"], content=both)).status_code, 200)
    doubted = await town.account(started, has_action("REVIEW"))
    doubted.must(action="REVIEW", prompts=1, debited=500)
    expect("the answer to the true one", (await town.edge.post(push["callback_url"], content=true)).status_code, 200)
    return doubted.seen("a person decides")


@case
async def unread_callback_keeps_the_end_open(town: Installation) -> Seen:
    """A callback that cannot be read comes, and then one that says wrong PIN."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    expect("the answer", (await town.edge.post(push["callback_url"], content=b"{paid?")).status_code, 200)
    await town.simulator.settle(phone, ending="wrong_pin")
    account = await town.account(started, has_status("FAILED"))
    account.must(reason="WRONG_PIN", certain=False, prompts=1, debited=0)
    return account.seen("outcome not certain")


@case
async def code_that_is_a_phone_number(town: Installation) -> Seen:
    """The result code of a callback is a phone number; later the money moves."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    said = {**json.loads(success_body(push, ""))["Body"]["stkCallback"], "ResultCode": int(phone)}
    del said["CallbackMetadata"]
    body = json.dumps({"Body": {"stkCallback": said}}).encode()
    expect("the answer", (await town.edge.post(push["callback_url"], content=body)).status_code, 200)
    unknown = await town.account(started, has_reason("CONFIRMING"))
    expect("the number in what the caller is told", phone in str(unknown.payment), False)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    return account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500).seen("CONFIRMING in between")
