"""Callbacks as no one should send them, with a valid token: kept byte for byte, and nobody believes them.

A payment is brought to where the passenger decides. Then a body is posted to the address that Daraja was given for it.
At the end the real callback comes and must settle the payment as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from runtime.callback_tokens import REFERENCE_ALPHABET, callback_path, load_callback_keys
from tests.end_to_end.town import UNTIL_TOLD, Town, a_phone, action_of, get, initiate, prompt, reason_of, status_of
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of

BODY_MAX_BYTES = 65_536


def callback(**fields: Any) -> bytes:
    """A callback with these fields in it, and none of the usual ones."""
    return json.dumps({"Body": {"stkCallback": fields}}).encode()


def paid_with(*items: dict[str, Any], **fields: Any) -> bytes:
    return callback(ResultCode=0, ResultDesc="", CallbackMetadata={"Item": list(items)}, **fields)


def item(name: str, value: object) -> dict[str, Any]:
    return {"Name": name, "Value": value}


STILL_PROCESSING = callback(ResultCode=4999)
NOT_BELIEVED = {
    "empty": b"",
    "one byte": b"0",
    "no JSON": b"ResultCode=0&MpesaReceiptNumber=QK123",
    "a page": b"<html><body>Request unsuccessful</body></html>",
    "no UTF-8": b'{"Body": "\xff\xfe"}',
    "NUL bytes": b"\x00" * 100,
    "half a body": callback(ResultCode=0)[:-3],
    "two bodies": callback(ResultCode=0) * 2,
    "nested 100 deep": b"[" * 100 + b"]" * 100,
    "nested 30,000 deep": b"[" * 30_000 + b"]" * 30_000,
    "nested objects": b'{"Body":' * 7_000 + b"0" + b"}" * 7_000,
    "as large as is allowed": b" " * (BODY_MAX_BYTES - 2) + b"{}",
    "a key twice": b'{"Body":{"stkCallback":{"ResultCode":1032,"ResultCode":0}}}',
    "NaN as the code": b'{"Body":{"stkCallback":{"ResultCode":NaN}}}',
    "null": b"null",
    "a text": b'"Body"',
    "stkCallback is a text": b'{"Body":{"stkCallback":"0"}}',
    "no code": callback(ResultDesc="The service request is processed successfully."),
    "the code is false": callback(ResultCode=False),
    "the code is true": callback(ResultCode=True),
    "the code is null": callback(ResultCode=None),
    "the code is 0.0": callback(ResultCode=0.0),
    "the code is a list": callback(ResultCode=[0]),
    "the code is a word": callback(ResultCode="zero"),
    "the code is other digits": callback(ResultCode="\u0660"),
    "the code has a space": callback(ResultCode=" 0"),
    "the code has 400 digits": b'{"Body":{"stkCallback":{"ResultCode":' + b"1" * 400 + b"}}}",
    "still processing": STILL_PROCESSING,
}


@pytest.fixture
async def prompted(town: Town) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A payment whose passenger is deciding: its id, and its push. At the end the passenger pays."""
    phone = a_phone()
    await town.simulator.script(phone, UNTIL_TOLD)
    started = await prompt(town.patient, phone)
    assert status_of(started.payment) == "PROCESSING"
    payment_id = started.payment.payment_id
    yield payment_id, await town.simulator.prompted(phone)
    assert await town.simulator.settle(phone, ending="paid") == [200]
    payment = await get(town.patient, payment_id)
    assert (status_of(payment), len(await town.simulator.pushes(phone=phone))) == ("COMPLETED", 1)
    (push,) = await town.simulator.pushes(phone=phone)
    assert payment.mpesa_receipt_number == push["receipt"]


@pytest.mark.parametrize("body", NOT_BELIEVED.values(), ids=NOT_BELIEVED.keys())
async def test_what_is_no_result_is_kept_and_changes_nothing(
    town: Town, prompted: tuple[str, dict[str, Any]], body: bytes
) -> None:
    payment_id, push = prompted
    before = await get(town.patient, payment_id)
    assert await town.post_callback(push, body) == 200
    assert await town.post_callback(push, body) == 200, "and the same again"
    assert await get(town.patient, payment_id) == before
    kept_as = "APPLIED" if body == STILL_PROCESSING else "UNREAD"
    assert await town.kept_bodies(before.reference) == [(body, kept_as)]
    assert await town.cases(before) == ([] if body == STILL_PROCESSING else [("UNREAD_CALLBACK", False)])


@pytest.mark.parametrize("code", [7777, 1037, 1019, 9999, 2032, -1, 10**11])
async def test_a_code_that_proves_nothing_makes_the_payment_uncertain(
    town: Town, prompted: tuple[str, dict[str, Any]], code: int
) -> None:
    payment_id, push = prompted
    body = callback(ResultCode=code)
    assert await town.post_callback(push, body) == 200
    payment = await get(town.patient, payment_id)
    assert (status_of(payment), reason_of(payment), action_of(payment)) == ("PROCESSING", "CONFIRMING", "WAIT")
    assert payment.provider_result_code == ("UNLISTED" if code == 10**11 else str(code))
    assert await town.kept_bodies(payment.reference) == [(body, "APPLIED")]


FOREIGN = {
    "another CheckoutRequestID": {"CheckoutRequestID": "ws_CO_01012026000000000700000000"},
    "another MerchantRequestID": {"MerchantRequestID": "1-2-3"},
    "both": {"CheckoutRequestID": "ws_CO_x", "MerchantRequestID": "y"},
}


@pytest.mark.parametrize("ids", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("code", [1, 1032, 1037, 7777, "2001"])
async def test_a_failure_with_ids_that_contradict_is_a_case_and_changes_nothing(
    town: Town, prompted: tuple[str, dict[str, Any]], ids: dict[str, Any], code: int | str
) -> None:
    payment_id, push = prompted
    before = await get(town.patient, payment_id)
    assert await town.post_callback(push, callback(ResultCode=code, **ids)) == 200
    assert await get(town.patient, payment_id) == before
    assert await town.cases(before) == [("FOREIGN_IDS", False)]


@pytest.mark.parametrize("ids", FOREIGN.values(), ids=FOREIGN.keys())
async def test_a_success_with_ids_that_contradict_is_a_money_case(
    town: Town, prompted: tuple[str, dict[str, Any]], ids: dict[str, Any]
) -> None:
    payment_id, push = prompted
    before = await get(town.patient, payment_id)
    receipt = f"Q{secrets.token_hex(4).upper()}X"
    body = paid_with(item("MpesaReceiptNumber", receipt), item("Amount", 500), **ids)
    assert await town.post_callback(push, body) == 200
    payment = await get(town.patient, payment_id)
    assert (status_of(payment), action_of(payment), payment.mpesa_receipt_number) == ("PROCESSING", "REVIEW", "")
    assert payment.version == before.version + 1
    assert await town.cases(before) == [("FOREIGN_IDS", True)]
    assert await town.kept_bodies(before.reference) == [(body, "APPLIED")]


async def test_the_callback_of_one_payment_posted_to_another_is_a_money_case(
    town: Town, prompted: tuple[str, dict[str, Any]]
) -> None:
    payment_id, push = prompted
    phone = a_phone()
    started = await initiate(town.patient, phone)
    other = await town.simulator.prompted(phone)
    body = paid_with(
        item("Amount", 500),
        MerchantRequestID=other["merchant_request_id"],
        CheckoutRequestID=other["checkout_request_id"],
    )
    assert await town.post_callback(push, body) == 200
    assert status_of(await get(town.patient, payment_id)) == "PROCESSING"
    assert await town.cases(await get(town.patient, payment_id)) == [("FOREIGN_IDS", True)]
    assert await town.cases(started.payment) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused_and_not_kept(
    town: Town, prompted: tuple[str, dict[str, Any]], chunked: bool
) -> None:
    payment_id, push = prompted

    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * BODY_MAX_BYTES
        yield b"0"

    content = pieces() if chunked else b" " * BODY_MAX_BYTES + b"0"
    answer = await town.edge.post(push["callback_url"], content=content)
    assert answer.status_code == 413
    assert await town.kept_bodies((await get(town.patient, payment_id)).reference) == []


async def test_a_huge_body_is_refused_before_it_is_sent(town: Town, prompted: tuple[str, dict[str, Any]]) -> None:
    payment_id, push = prompted
    url = httpx.URL(push["callback_url"])
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Length: 1000000000\r\n\r\n"
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert await town.kept_bodies((await get(town.patient, payment_id)).reference) == []


async def test_a_bad_token_is_one_and_the_same_404_and_nothing_is_kept(
    town: Town, prompted: tuple[str, dict[str, Any]]
) -> None:
    payment_id, push = prompted
    before = await get(town.patient, payment_id)
    stem, _, token = push["callback_url"].rpartition("/")
    base, _, reference = stem.rpartition("/")
    other_reference = "".join(reversed(reference))
    body = paid_with(item("MpesaReceiptNumber", "BADTOKEN01"), item("Amount", 500))
    for url in (
        f"{stem}/{token[:-1]}{'0' if token[-1] != '0' else '1'}",
        f"{stem}/{token.upper()}X",
        f"{stem}/{'0' * len(token)}",
        f"{stem}/",
        f"{stem}/{token}/",
        f"{stem}/{token}0",
        f"{base}/{other_reference}/{token}",
        f"{base}/{reference[:-1]}/{token}",
        f"{stem}/{token}?x=1",
        f"{stem.replace('/stk/', '/result/')}/{token}",
    ):
        answer = await town.edge.post(url, content=body)
        assert (answer.status_code, answer.content) == (404, b""), url
    assert await get(town.patient, payment_id) == before
    # Callbacks of other payments of this town may come meanwhile.
    assert body not in [kept for kept, _ in await town.kept_bodies()]


async def test_a_valid_token_for_an_unknown_payment_is_kept_for_an_operator(town: Town) -> None:
    keys = load_callback_keys(town.site.folder / "callback-keys.json")
    reference = "".join(secrets.choice(REFERENCE_ALPHABET) for _ in range(12))
    path = callback_path(keys, "stk", reference)
    bodies = [paid_with(item("MpesaReceiptNumber", f"U{secrets.token_hex(4).upper()}")), b"not JSON"]
    for body in (*bodies, bodies[0]):
        assert (await town.edge.post(path, content=body)).status_code == 200
    assert await town.kept_bodies(reference) == [(body, "UNMATCHED") for body in bodies]
    cases = await rows_of(
        town.database, "SELECT kind, is_money, payment_id FROM cases WHERE reference = %s", (reference,)
    )
    assert cases == [("UNKNOWN_PAYMENT", False, None)] * 2


async def test_a_callback_is_believed_whatever_its_headers_say(
    town: Town, prompted: tuple[str, dict[str, Any]]
) -> None:
    payment_id, push = prompted
    body = callback(ResultCode=1037, CheckoutRequestID=push["checkout_request_id"])
    assert await town.post_callback(push, body, **{"Content-Type": "application/x-www-form-urlencoded"}) == 200
    assert (await get(town.patient, payment_id)).provider_result_code == "1037"
