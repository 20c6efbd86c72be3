"""What a reversal and a B2C payment have in common: both are orders to send money, acknowledged now and told later.

An order is sent once. Its answer says whether M-Pesa took it; only its result, posted later, says whether money moved.
What it takes to be sure of that is decided beside each order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, assert_never

from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.fields import is_id, read_receipt
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.order_codes import Ending, order_meaning
from payment_service.daraja.refusals import Refusal
from payment_service.daraja.results import DONE, INITIATOR_REFUSED_CODES, Result
from payment_service.daraja.sending import NotSent, Uncertain, read_sent
from payment_service.daraja.transport import HttpAnswer, NoAnswer

Answer = TypeVar("Answer", bound="OrderAnswer | TakenBefore")

_NOT_CARRIED_OUT = frozenset({"cancelled", "declined", "expired"})

_OF_PUSHES = "500.001.1001"
"""For an order this is the code of an internal error, whatever its text says about a push."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """M-Pesa took the order. Accepted is not carried out."""

    originator_conversation_id: str
    """Names the order in its result, and to Transaction Status."""
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Daraja refused the order in a way that proves that no money moves, and would refuse it again."""

    code: str
    alarm: str
    """A sentence for the log at error level: what to check. A refusal is never the passenger's doing."""


@dataclass(frozen=True, slots=True)
class TakenBefore:
    """M-Pesa has had an order of this name before: this one does nothing, and what became of the other is not said."""


OrderAnswer = Accepted | Refused | NotSent | Uncertain


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What proves that the money moved."""

    receipt: str | None
    """Of the transfer itself."""
    amount: int | str | None
    """Whole shillings, `UNREADABLE`, or None where none is said."""
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A result that proves that no money moved."""

    code: str
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""
    initiator_refused: bool = False
    """Every further order is refused in the same way, and some wrong passwords in a row lock it."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A result, or the word that there will be none, from which nothing follows: the order has to be asked about."""

    why: str
    """For the log; never a text of the other side."""


async def send_order(
    client: DarajaClient,
    token: str,
    operation: str,
    path: str,
    fields: dict[str, object],
    *,
    initiator: Initiator,
    send_before: datetime | None,
    read: Callable[[HttpAnswer | NoAnswer], Answer],
) -> tuple[Answer, Exchange]:
    """One order, sent once, within the timeouts of a push. From `send_before` on no first byte leaves."""
    answer, classified = await post(
        client,
        token,
        operation,
        path,
        {**fields, "SecurityCredential": initiator.credential()},
        secret="SecurityCredential",
        timeouts=client.push_timeouts,
        may_send=lambda: send_before is None or client.clock() < send_before,
    )
    said = read(answer)
    return said, classified(_name_of(said))


def read_order_answer(answer: HttpAnswer | NoAnswer, what: str) -> OrderAnswer:
    """What the answer to an order proves. `what` names the kind of order in an alarm."""

    def refused(row: Refusal) -> Refused | None:
        if row.code == _OF_PUSHES:
            return None
        return Refused(
            row.code, f"Daraja refused a {what}: check the base URL, the shortcode and the initiator's name."
        )

    return read_sent(answer, _accepted, refused)


def _accepted(value: dict[str, object]) -> Accepted | Uncertain:
    # The second spelling is Safaricom's own, in another product's answers.
    originator = value.get("OriginatorConversationID", value.get("OriginatorCoversationID"))
    conversation = value.get("ConversationID")
    if not is_id(originator):
        return Uncertain("accepted, without a readable OriginatorConversationID")
    return Accepted(str(originator), str(conversation) if is_id(conversation) else None)


def _name_of(answer: OrderAnswer | TakenBefore) -> str:
    match answer:
        case Accepted() | TakenBefore():
            return type(answer).__name__
        case Refused(code=code) | NotSent(code=code):
            return f"{type(answer).__name__} {code}"
        case Uncertain(why=why):
            return f"Uncertain: {why}"
        case _:
            assert_never(answer)


def deciding_code(result: Result) -> str | Unproven:
    """The code of a result that decides something, or why it does not, whatever its code."""
    if result.code is None:
        return Unproven("no Result with a ResultCode")
    if not result.came_to_an_end:
        # So does a post to the timeout address, and it comes with code 1, which is "too little money" elsewhere.
        return Unproven("the result does not say that M-Pesa has decided")
    if order_meaning(result.code).ending is Ending.UNKNOWN:
        return Unproven("a code that is not listed")
    return result.code


def read_order_status(result: Result, originator_conversation_id: str | None) -> CarriedOut | Failed | Unproven:
    """What Transaction Status says of an order that it was asked for by its conversation."""
    if result.code != DONE or not result.came_to_an_end:
        return Unproven("the question was not answered")
    conversation = result.only("OriginatorConversationID")
    if originator_conversation_id is None or conversation != originator_conversation_id:
        return Unproven("the answer is about another conversation")
    status = result.only("TransactionStatus")
    word = status.strip().lower() if isinstance(status, str) else ""
    if word == "completed":
        return CarriedOut(read_receipt(result.only("ReceiptNo")), result.amount("Amount"), result.time("FinalisedTime"))
    return Failed(word.upper()) if word in _NOT_CARRIED_OUT else Unproven("the order has not ended")


def failed(code: str) -> Failed:
    """A failure by a code that is listed as one."""
    return Failed(code, order_meaning(code).alarm, code in INITIATOR_REFUSED_CODES)
