"""The push: what is sent, from "Daraja: M-Pesa Express Simulate", and what an answer to it proves.

Whether a push may be repeated follows from its answer alone; nothing is retried here. Which refusals are proof that no
prompt was shown stands in `refusals`, and how an answer is read, in `sending`.
"""

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

import structlog

from payment_service.alarms import PUSH_REFUSED
from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.fields import NAIROBI, is_id
from payment_service.daraja.sending import NotSent, Uncertain, read_sent
from payment_service.daraja.shortcodes import PushRequest, Shortcode
from payment_service.daraja.transport import HttpAnswer, NoAnswer
from payment_service.domain.reasons import Reason
from runtime.alarms import raise_alarm

PUSH_PATH = "/mpesa/stkpush/v1/processrequest"

ACCEPTED = "Accepted"
NOT_SENT = "NotSent"
OF_ONE_PHONE = (Reason.PHONE_BUSY, Reason.NOT_AN_MPESA_NUMBER)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Accepted:
    """Daraja took the push. Accepted is not paid."""

    merchant_request_id: str
    checkout_request_id: str = field(repr=False)
    """Ends in the payer's digits, so it stands in no log."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Daraja refused the push in a way that proves no prompt was shown, and would refuse it again."""

    code: str
    reason: Reason
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""


PushAnswer = Accepted | Refused | NotSent | Uncertain


async def push(
    client: DarajaClient, token: str, request: PushRequest, *, send_before: datetime | None = None
) -> tuple[PushAnswer, Exchange]:
    """One push, sent once. From `send_before` on no first byte leaves, and the answer is NotSent.

    Call it in a task that nobody cancels: after a cancellation nothing is known about the push.
    """
    answer, classified = await post(
        client,
        token,
        "push",
        PUSH_PATH,
        _push_fields(request, client.clock()),
        secret="Password",
        timeouts=client.push_timeouts,
        may_send=lambda: send_before is None or client.clock() < send_before,
    )
    read = read_push_answer(answer)
    _report_push(read, answer.status)
    return read, classified(push_answer_name(read))


def _push_fields(request: PushRequest, now: datetime) -> dict[str, object]:
    shortcode = request.shortcode
    return {
        **express_credentials(shortcode, now),
        "TransactionType": shortcode.transaction_type,
        "Amount": request.amount,
        "PartyA": request.phone_number,
        "PartyB": shortcode.party_b,
        "PhoneNumber": request.phone_number,
        "CallBackURL": request.callback_url,
        "AccountReference": request.account_reference,
        "TransactionDesc": request.description,
    }


def express_credentials(shortcode: Shortcode, now: datetime) -> dict[str, object]:
    """The fields by which Daraja knows a shortcode, in a push and in a query alike."""
    # One text for the field and inside the password: two readings of the clock could differ by a second.
    timestamp = now.astimezone(NAIROBI).strftime("%Y%m%d%H%M%S")
    password = base64.b64encode(f"{shortcode.number}{shortcode.passkey}{timestamp}".encode()).decode()
    return {"BusinessShortCode": shortcode.number, "Password": password, "Timestamp": timestamp}


def read_push_answer(answer: HttpAnswer | NoAnswer) -> PushAnswer:
    """What the answer to a push proves."""
    return read_sent(answer, _read_acceptance, lambda row: Refused(row.code, row.reason, row.alarm))


def _read_acceptance(value: dict[str, object]) -> Accepted | Uncertain:
    merchant, checkout = value.get("MerchantRequestID"), value.get("CheckoutRequestID")
    if not is_id(merchant) or not is_id(checkout):
        return Uncertain("accepted, without readable ids")
    return Accepted(str(merchant), str(checkout))


def push_answer_name(answer: PushAnswer) -> str:
    """What an answer is called in the stored exchange and in the log. One code may have several meanings."""
    match answer:
        case Accepted():
            return ACCEPTED
        case Refused(code=code, reason=reason):
            return f"Refused {code} {reason}"
        case NotSent(code=code):
            return f"{NOT_SENT} {code}"
        case Uncertain(why=why):
            return f"Uncertain: {why}"
        case _:
            assert_never(answer)


def may_be_our_setup(name: str) -> bool:
    """Whether an answer of this name, if everybody gets it, may be due to our set-up: a refusal, listed or not.

    None of those: an acceptance, a push that is to come again later, and what M-Pesa says of one payer's phone.
    """
    return name != ACCEPTED and not name.startswith(NOT_SENT) and not name.endswith(OF_ONE_PHONE)


def _report_push(answer: PushAnswer, http_status: int | None) -> None:
    """A line for what an operator may have to look at. Payers who are busy or mistyped a number are none of it."""
    match answer:
        case Refused(alarm=str() as check) | NotSent(alarm=str() as check):
            raise_alarm(PUSH_REFUSED, answer=push_answer_name(answer), http_status=http_status, check=check)
        case NotSent() | Uncertain():
            _log.warning("push not sent or unanswered", answer=push_answer_name(answer), http_status=http_status)
        case Accepted() | Refused():
            pass
        case _:
            assert_never(answer)
