"""Reversal: the whole of a payment is sent back to its payer, by the receipt it came with.

From "Daraja: Reversals" and recorded results. A reversal is an order (`orders`): it is sent once, and when its answer
is lost nothing says what became of it. M-Pesa reverses a transaction only once: asked again it says R000001, which
proves that the money went back, and not who sent it.

A result is believed only as far as it names what it is about. Sandboxes have answered 0 without a word more, so done
is what names the original transaction; which one, the caller compares. A failure that names one as well contradicts
itself, and proves nothing. What is unproven is asked about by Transaction Status, whose result is read here too.
"""

from dataclasses import dataclass
from datetime import datetime

from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.fields import read_receipt
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.order_codes import Ending, order_meaning
from payment_service.daraja.orders import (
    CarriedOut,
    Failed,
    OrderAnswer,
    Unproven,
    deciding_code,
    failed,
    read_order_answer,
    read_order_status,
    send_order,
)
from payment_service.daraja.results import DONE, read_result
from payment_service.daraja.shortcodes import AMOUNT_MAX, AMOUNT_MIN, Shortcode
from payment_service.daraja.transport import HttpAnswer, NoAnswer

REVERSAL_PATH = "/mpesa/reversal/v1/request"

_ORGANISATION = "11"
"""The only identifier type that a reversal takes."""


@dataclass(frozen=True, slots=True)
class ReversalOrder:
    """Which payment goes back. Build it before the order is claimed: it raises ValueError for what must not be sent."""

    shortcode: Shortcode
    """Only who was paid can send it back."""
    receipt: str
    amount: int
    """Whole shillings: all of what was received. A part cannot be reversed."""
    result_url: str
    timeout_url: str
    """An address of its own: whatever is posted there, it says that nobody knows what became of the order."""

    def __post_init__(self) -> None:
        if read_receipt(self.receipt) is None:
            raise ValueError("a reversal names the receipt number of the payment")
        if not AMOUNT_MIN <= self.amount <= AMOUNT_MAX:
            raise ValueError(f"a reversal has {AMOUNT_MIN} to {AMOUNT_MAX} shillings")


@dataclass(frozen=True, slots=True)
class Reversed:
    """A reversal that was carried out."""

    original_receipt: str
    """Of the payment that went back; to be compared with the one that was meant."""
    amount: int | str | None
    """Whole shillings, `UNREADABLE`, or None where none is said."""
    own_receipt: str | None
    """Of the reversal itself."""
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class AlreadyReversed:
    """The payment's money has gone back: by this order or another, or by Safaricom at the payer's request."""


ReversalResult = Reversed | AlreadyReversed | Failed | Unproven


async def order_reversal(
    client: DarajaClient,
    token: str,
    initiator: Initiator,
    order: ReversalOrder,
    *,
    send_before: datetime | None = None,
) -> tuple[OrderAnswer, Exchange]:
    """One reversal, sent once. From `send_before` on no first byte leaves, and the answer is NotSent.

    Call it in a task that nobody cancels: after a cancellation nothing is known about the reversal.
    """
    fields: dict[str, object] = {
        "Initiator": initiator.name,
        "CommandID": "TransactionReversal",
        "TransactionID": order.receipt,
        "Amount": order.amount,
        "ReceiverParty": order.shortcode.party_b,
        # The misspelling is Safaricom's, and the right spelling is refused.
        "RecieverIdentifierType": _ORGANISATION,
        "ResultURL": order.result_url,
        "QueueTimeOutURL": order.timeout_url,
        "Remarks": "Refund",
    }
    return await send_order(
        client,
        token,
        "reversal",
        REVERSAL_PATH,
        fields,
        initiator=initiator,
        send_before=send_before,
        read=read_reversal_answer,
    )


def read_reversal_answer(answer: HttpAnswer | NoAnswer) -> OrderAnswer:
    """What the answer to a reversal proves."""
    return read_order_answer(answer, "reversal")


def read_reversal_result(body: bytes) -> ReversalResult:
    """What a post to either of a reversal's addresses proves. Never raises."""
    result = read_result(body)
    code = deciding_code(result)
    if isinstance(code, Unproven):
        return code
    original = read_receipt(result.only("OriginalTransactionID"))
    match order_meaning(code).ending:
        case Ending.ALREADY_REVERSED:
            return AlreadyReversed()
        case Ending.DONE if original is not None:
            amount, completed_at = result.amount("Amount"), result.time("TransCompletedTime")
            return Reversed(original, amount, result.own_receipt, completed_at)
        case Ending.DONE:
            return Unproven("a success without its OriginalTransactionID")
        case Ending.FAILED if not result.told_of("OriginalTransactionID"):
            return failed(code)
        case _:
            return Unproven("a failure that names an OriginalTransactionID")


def read_reversal_status(body: bytes, receipt: str, originator_conversation_id: str | None) -> ReversalResult:
    """What Transaction Status says of a reversal, asked for by its conversation or by the receipt that goes back.

    That the payment itself is completed says nothing: it is so before its reversal, and may be called so after it.
    """
    result = read_result(body)
    if result.code == DONE and result.came_to_an_end and read_receipt(result.only("ReceiptNo")) == receipt:
        status = result.only("TransactionStatus")
        called_reversed = isinstance(status, str) and status.strip().lower() == "reversed"
        return AlreadyReversed() if called_reversed else Unproven("the payment is not called reversed")
    seen = read_order_status(result, originator_conversation_id)
    if isinstance(seen, CarriedOut):
        return Reversed(receipt, seen.amount, seen.receipt, seen.completed_at)
    return seen
