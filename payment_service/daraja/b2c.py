"""B2C: part of a payment is sent back to its payer, from our account, under a name that we give the order.

From "Daraja: B2C" (v3) and recorded results. A B2C payment is an order (`orders`), and M-Pesa cannot take it back. What
keeps it from being carried out twice is our OriginatorConversationID, made once and kept: an order under a name that
M-Pesa has taken before is refused as a duplicate, which proves that the first one arrived, and not what became of it.

A result is believed only if it comes back with our name, and a success only if it names the receipt of the transfer.
What is unproven is asked about by Transaction Status, under the same name; its result is read here too.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.envelopes import error_in, lenient_json
from payment_service.daraja.fields import read_receipt
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.order_codes import Ending, order_meaning
from payment_service.daraja.orders import (
    Accepted,
    CarriedOut,
    Failed,
    OrderAnswer,
    TakenBefore,
    Unproven,
    deciding_code,
    failed,
    read_order_answer,
    read_order_status,
    send_order,
)
from payment_service.daraja.refusals import normalise
from payment_service.daraja.results import read_result
from payment_service.daraja.sending import Uncertain
from payment_service.daraja.shortcodes import MOBILE_NUMBER, Shortcode
from payment_service.daraja.transport import HttpAnswer, NoAnswer
from payment_service.domain.refund import B2C_AMOUNT_MAX, B2C_AMOUNT_MIN

B2C_PATH = "/mpesa/b2c/v3/paymentrequest"

# What a duplicate is called shares its code with a system error and with maintenance.
_DUPLICATE = ("500.002.1001", "duplicate originatorconversationid")

_NAME = re.compile(r"[A-Za-z0-9_-]{8,64}")

B2cResult = CarriedOut | Failed | Unproven


@dataclass(frozen=True, slots=True)
class B2cOrder:
    """Who gets how much. Build it before the order is claimed: it raises ValueError for what must not be sent."""

    account: Shortcode
    """Whose utility account pays."""
    command: str
    """BusinessPayment, SalaryPayment or PromotionPayment."""
    originator_conversation_id: str
    """Our name of the order: made once and kept with it, so that a repeat is refused by M-Pesa itself."""
    phone_number: str = field(repr=False)
    """E.164 without the plus."""
    amount: int
    """Whole shillings."""
    result_url: str
    timeout_url: str
    """An address of its own: whatever is posted there, it says that nobody knows what became of the order."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.originator_conversation_id):
            raise ValueError("a B2C payment has a name of 8 to 64 letters, digits, hyphens and underscores")
        if not MOBILE_NUMBER.fullmatch(self.phone_number):
            raise ValueError("a B2C payment goes to a 2547XXXXXXXX or 2541XXXXXXXX")
        if not B2C_AMOUNT_MIN <= self.amount <= B2C_AMOUNT_MAX:
            raise ValueError(f"a B2C payment has {B2C_AMOUNT_MIN} to {B2C_AMOUNT_MAX} shillings")


async def order_b2c(
    client: DarajaClient, token: str, initiator: Initiator, order: B2cOrder, *, send_before: datetime | None = None
) -> tuple[OrderAnswer | TakenBefore, Exchange]:
    """One B2C payment, sent once. From `send_before` on no first byte leaves, and the answer is NotSent.

    Call it in a task that nobody cancels: after a cancellation nothing is known about the payment.
    """

    def read(answer: HttpAnswer | NoAnswer) -> OrderAnswer | TakenBefore:
        return read_b2c_answer(answer, order.originator_conversation_id)

    fields: dict[str, object] = {
        "OriginatorConversationID": order.originator_conversation_id,
        "InitiatorName": initiator.name,
        "CommandID": order.command,
        "Amount": order.amount,
        "PartyA": order.account.party_b,
        "PartyB": order.phone_number,
        "Remarks": "Refund",
        "QueueTimeOutURL": order.timeout_url,
        "ResultURL": order.result_url,
    }
    return await send_order(
        client, token, "b2c", B2C_PATH, fields, initiator=initiator, send_before=send_before, read=read
    )


def read_b2c_answer(answer: HttpAnswer | NoAnswer, originator_conversation_id: str) -> OrderAnswer | TakenBefore:
    """What the answer to a B2C payment under this name proves."""
    if isinstance(answer, HttpAnswer) and _says_duplicate(answer.body):
        return TakenBefore()
    read = read_order_answer(answer, "B2C payment")
    if isinstance(read, Accepted) and read.originator_conversation_id != originator_conversation_id:
        return Uncertain("accepted, under another OriginatorConversationID")
    return read


def _says_duplicate(body: bytes) -> bool:
    value = lenient_json(body)
    error = error_in(value) if isinstance(value, dict) and "ResponseCode" not in value else None
    return error is not None and (error[0], normalise(error[1])) == _DUPLICATE


def read_b2c_result(body: bytes, originator_conversation_id: str) -> B2cResult:
    """What a post to either address of the B2C payment under this name proves. Never raises."""
    result = read_result(body)
    code = deciding_code(result)
    if isinstance(code, Unproven):
        return code
    if result.originator_conversation_id != originator_conversation_id:
        return Unproven("the result does not name this order")
    receipt = read_receipt(result.only("TransactionReceipt")) or result.own_receipt
    match order_meaning(code).ending:
        case Ending.DONE if receipt is None or result.own_receipt not in (None, receipt):
            return Unproven("a success without its receipt, or with two")
        case Ending.DONE:
            return CarriedOut(receipt, result.amount("TransactionAmount"), result.time("TransactionCompletedDateTime"))
        case Ending.FAILED if not result.told_of("TransactionReceipt"):
            return failed(code)
        case _:
            return Unproven("a code that says nothing of a B2C payment, or a failure that names a receipt")


def read_b2c_status(body: bytes, originator_conversation_id: str) -> B2cResult:
    """What Transaction Status says of the B2C payment under this name."""
    return read_order_status(read_result(body), originator_conversation_id)
