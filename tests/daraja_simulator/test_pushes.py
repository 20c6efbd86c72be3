"""What a push is accepted or refused for, in Daraja's words, and what it leaves in the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import phonenumbers
import pytest

from daraja_simulator.errors import ERRORS
from daraja_simulator.phones import PHONES, RANGE_PREFIX
from tests.daraja_simulator.merchant import Merchant, merchant_of, nairobi_now, new_phone
from tests.daraja_simulator.simulators import as_process

# Written down a second time on purpose: status, code and text as the documentation and recordings have them.
REFUSALS = (
    ("no_iccid", 500, "500.001.1001", "[CBS - ] No ICCID found"),
    ("system_busy", 500, "500.003.02", "System is busy"),
    ("spike_arrest", 500, "500.003.02", "Spike Arrest Violation"),
    ("quota", 500, "500.003.03", "Quota Violation"),
    ("internal_error", 500, "500.003.1001", "Internal Server Error"),
    ("maintenance", 500, "500.002.1001", "Service is currently under maintenance"),
    ("duplicate_originator", 500, "500.002.1001", "Duplicate OriginatorConversationID."),
    ("bad_payload", 400, "400.002.05", ""),
    ("bad_payload_003", 400, "400.003.02", ""),
    ("resource_not_found_002", 404, "404.002.01", ""),
    ("resource_not_found_003", 404, "404.003.01", ""),
    ("merchant_does_not_exist", 500, "500.001.1001", "Merchant does not exist"),
    ("wrong_credentials", 500, "500.001.1001", "Wrong credentials"),
    ("wrong_credentials_merchant_validate", 500, "500.001.1001", "[MerchantValidate] - Wrong credentials"),
    ("subscriber_locked", 500, "500.001.1001", "Unable to lock subscriber"),
    ("empty_envelope_200", 200, "500.001.1001", ""),
)


async def test_an_accepted_push_is_answered_as_recorded(merchant: Merchant) -> None:
    phone = new_phone()
    status, body = await merchant.push(phone)
    assert status == 200
    assert list(body) == [
        "MerchantRequestID",
        "CheckoutRequestID",
        "ResponseCode",
        "ResponseDescription",
        "CustomerMessage",
    ]
    assert body["ResponseCode"] == "0"
    assert re.fullmatch(r"[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}[0-9]{3,7}", body["MerchantRequestID"])
    assert re.fullmatch(rf"ws_CO_[0-9]{{17}}{phone[3:]}", body["CheckoutRequestID"])
    assert body["CheckoutRequestID"][6:14] == nairobi_now()[6:8] + nairobi_now()[4:6] + nairobi_now()[:4]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"BusinessShortCode": "1"}, "BusinessShortCode"),
        ({"BusinessShortCode": None}, "BusinessShortCode"),
        ({"Timestamp": "20260231120000"}, "Timestamp"),
        ({"Timestamp": "now"}, "Timestamp"),
        ({"Password": None}, "Password"),
        ({"TransactionType": "CustomerPaybillOnline"}, "TransactionType"),
        ({"TransactionType": "CustomerBuyGoodsOnline"}, "TransactionType"),
        ({"Amount": 0}, "Amount"),
        ({"Amount": 1.5}, "Amount"),
        ({"Amount": 250_001}, "Amount"),
        ({"Amount": "ten"}, "Amount"),
        ({"Amount": True}, "Amount"),
        ({"PartyA": "+254722000000"}, "PartyA"),
        ({"PhoneNumber": "0722000000"}, "PhoneNumber"),
        ({"PhoneNumber": "254222000000"}, "PhoneNumber"),
        ({"PartyB": "x"}, "PartyB"),
        ({"CallBackURL": None}, "CallBackURL"),
        ({"CallBackURL": "http://localhost:8080/callbacks"}, "CallBackURL"),
        ({"CallBackURL": "http://127.0.0.1/a b"}, "CallBackURL"),
        ({"CallBackURL": "https://pay.example/mpesa/1"}, "CallBackURL"),
        ({"CallBackURL": "https://Safaricom.example/1"}, "CallBackURL"),
        ({"CallBackURL": "https://pay.example/sql/1"}, "CallBackURL"),
        ({"CallBackURL": "ftp://pay.example/1"}, "CallBackURL"),
        ({"AccountReference": ""}, "AccountReference"),
    ],
)
async def test_a_wrong_field_is_named_and_prompts_nobody(
    merchant: Merchant, changes: dict[str, Any], field: str
) -> None:
    status, body = await merchant.push(new_phone(), **changes)
    assert (status, body["errorCode"]) == (400, "400.002.02")
    assert body["errorMessage"] == f"Bad Request - Invalid {field}"
    assert (await merchant.ledger())["totals"] == {**NOTHING, "pushes": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"Amount": "7"},
        {"Amount": 250_000},
        {"BusinessShortCode": 174379, "PartyB": 174379},
        {"CallBackURL": "http://127.0.0.1:9/a%20b"},
        {"AccountReference": "R" * 20},
        {"TransactionDesc": None},
        {"TransactionDesc": "D" * 29},
        {"BusinessShortCode": "600584", "PartyB": "300584", "TransactionType": "CustomerBuyGoodsOnline"},
    ],
)
async def test_what_daraja_lets_pass_passes(merchant: Merchant, changes: dict[str, Any]) -> None:
    status, body = await merchant.push(new_phone(), **changes)
    assert (status, body.get("ResponseCode")) == (200, "0")


async def test_credentials_are_checked_with_nairobi_time(merchant: Merchant) -> None:
    for changes in ({"Timestamp": nairobi_now(offset_hours=0)}, {"Password": "d3Jvbmc="}):
        status, body = await merchant.push(new_phone(), **changes)
        assert (status, body["errorMessage"]) == (500, "Wrong credentials")
    status, body = await merchant.push(new_phone(), BusinessShortCode="999999")
    assert (status, body["errorMessage"]) == (500, "Merchant does not exist")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (lambda: {"Timestamp": nairobi_now(offset_hours=0)}, "Timestamp: it is in UTC; expected Nairobi's time"),
        (lambda: {"Timestamp": "20200101000000"}, "s off Nairobi's clock; 900 are allowed"),
        (
            lambda: {"Password": "d3Jvbmc="},
            "Password: expected base64 of the shortcode, its passkey and this Timestamp",
        ),
    ],
)
async def test_the_simulator_says_beside_darajas_words_which_credential_is_wrong(
    merchant: Merchant, changes: Callable[[], dict[str, Any]], why: str
) -> None:
    await merchant.new_token()
    headers = {"Authorization": f"Bearer {merchant.token}"}
    fields = merchant.fields(new_phone(), **changes())
    for path in ("stkpush/v1/processrequest", "stkpushquery/v1/query"):
        async with merchant.session.post(f"{merchant.url}/mpesa/{path}", json=fields, headers=headers) as answer:
            assert (answer.status, (await answer.json())["errorMessage"]) == (500, "Wrong credentials")
            assert why in answer.headers["X-Simulator-Why"]
    (push,) = (await merchant.ledger())["pushes"]
    assert why in push["why_refused"]


async def test_a_library_that_writes_utc_is_tried_out_where_somebody_says_so(tmp_path: Path) -> None:
    flags = ("--utc-timestamps", "--quirks", "off", "--latency", "none")
    async with as_process(tmp_path, *flags) as running, merchant_of(running.url) as merchant:
        for stamp in (nairobi_now(offset_hours=0), nairobi_now()):
            assert (await merchant.push(new_phone(), Timestamp=stamp))[0] == 200
        assert (await merchant.push(new_phone(), Timestamp=nairobi_now(offset_hours=1)))[0] == 500


async def test_form_encoding_and_other_bodies_are_refused(merchant: Merchant) -> None:
    await merchant.new_token()
    url = f"{merchant.url}/mpesa/stkpush/v1/processrequest"
    headers = {"Authorization": f"Bearer {merchant.token}"}
    async with merchant.session.post(url, data={"Amount": "1"}, headers=headers) as answer:
        assert (await answer.json())["errorMessage"] == "Bad Request - Invalid BusinessShortCode"
    for body in (b"", b"[1]", b"{", b"[" * 100_000):
        async with merchant.session.post(url, data=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["errorCode"]) == (400, "400.002.05")
    async with merchant.session.get(url, headers=headers) as answer:
        assert (answer.status, (await answer.json())["errorCode"]) == (405, "405.001")
    async with merchant.session.post(f"{merchant.url}/mpesa/nothing", headers=headers) as answer:
        assert (answer.status, (await answer.json())["errorCode"]) == (404, "404.001.01")


async def test_one_prompt_per_phone_at_a_time(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, callback_delay_seconds=3600)
    assert (await merchant.push(phone))[0] == 200
    status, body = await merchant.push(phone)
    assert (status, body["errorCode"]) == (500, "500.001.1001")
    assert body["errorMessage"].startswith("Unable to lock subscriber")
    totals = (await merchant.ledger(phone=phone))["totals"]
    assert (totals["pushes"], totals["prompted"]) == (2, 1)
    await merchant.control("callbacks/settle", {"phone": phone, "ending": "cancelled"})
    assert (await merchant.push(phone))[0] == 200


@pytest.mark.parametrize(("name", "status", "code", "text"), REFUSALS)
async def test_every_listed_refusal_can_be_scripted(
    merchant: Merchant, name: str, status: int, code: str, text: str
) -> None:
    phone = new_phone()
    await merchant.script(phone, error=name)
    answered, body = await merchant.push(phone)
    assert (answered, body["errorCode"]) == (status, code)
    assert text in body["errorMessage"]
    assert (await merchant.ledger(phone=phone))["totals"]["prompted"] == 0


async def test_the_other_envelopes_can_be_scripted(merchant: Merchant) -> None:
    seen = {}
    for name in ("apigee_429", "incapsula_403", "incapsula_503", "soap_fault_500", "empty_500", "unreachable_503"):
        phone = new_phone()
        await merchant.script(phone, error=name)
        seen[name] = await merchant.post("/mpesa/stkpush/v1/processrequest", merchant.fields(phone))
    assert seen["apigee_429"][0] == 429
    assert json.loads(seen["apigee_429"][1])["fault"]["detail"]["errorcode"].endswith("SpikeArrestViolation")
    assert seen["incapsula_403"][0] == 403
    assert b"<html>" in seen["incapsula_403"][1]
    assert b"Incapsula incident ID" in seen["incapsula_503"][1]
    assert json.loads(seen["soap_fault_500"][1])["Envelope"]["Body"]["Fault"]
    assert seen["empty_500"] == (500, b"")
    assert seen["unreachable_503"] == (503, b"Service is currently unreachable")


async def test_an_error_may_follow_a_delivered_prompt(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, error="internal_error", prompts=True)
    status, body = await merchant.push(phone)
    assert (status, body["errorCode"]) == (500, "500.003.1001")
    await merchant.callbacks(1)
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 150


async def test_faults_come_before_scripts_and_are_used_up(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, error="quota")
    await merchant.control("faults", {"behaviour": {"error": "system_busy"}, "count": 1})
    codes = [(await merchant.push(phone))[1].get("errorCode") for _ in range(3)]
    assert codes == ["500.003.02", "500.003.03", None]


async def test_the_special_numbers_are_valid_kenyan_mobile_numbers() -> None:
    for phone in PHONES:
        number = phonenumbers.parse(f"+{RANGE_PREFIX}00{phone.digits}")
        assert phonenumbers.is_valid_number(number)
        assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE


async def test_a_script_that_cannot_be_read_says_what_can(merchant: Merchant) -> None:
    for script, named in (
        ({"endin": "paid"}, "endin"),
        ({"ending": "rich"}, "no_funds"),
        ({"error": "none"}, "spike_arrest"),
        ({"answer": "closed_unread"}, "/control/faults"),
        ({"callback_delay_seconds": -1}, "callback_delay_seconds"),
        ({"quirks": ["nothing"]}, "nothing"),
        ({"raw_answer": {"body_base64": "!"}}, "base64"),
    ):
        url = f"{merchant.url}/control/phones/254722000000/script"
        async with merchant.session.post(url, json=script) as answer:
            assert answer.status == 400
            assert named in (await answer.json())["error"]
    assert len(ERRORS) > len(REFUSALS)


NOTHING = {"pushes": 0, "prompted": 0, "payments": 0, "debited_kes": 0, "callbacks": 0, "callbacks_ok": 0}
