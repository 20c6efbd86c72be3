"""Transaction Status, asked by receipt or by conversation: what is asked, from "Daraja: Transaction Status".

The answer only says that the question was taken; the result is posted to a callback URL later (`status_messages`).
Asking moves no money, so it may be asked again; that a wrong password locks is for the caller to mind.
"""

from dataclasses import dataclass

from payment_service.daraja.book_messages import NothingLearned
from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.status_messages import StatusAnswer, read_acknowledgement
from payment_service.daraja.transport import HttpAnswer, NoAnswer

STATUS_PATH = "/mpesa/transactionstatus/v1/query"

_IDENTIFIER_TYPE = {ShortcodeKind.TILL: "2", ShortcodeKind.PAYBILL: "4"}


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """Which transaction is asked for: by its receipt number, or where there is none by the conversation it came of."""

    shortcode: Shortcode
    """Only who was paid may ask."""
    receipt: str | None
    conversation_id: str
    result_url: str


async def ask_transaction_status(
    client: DarajaClient, token: str, initiator: Initiator, question: StatusQuestion
) -> tuple[StatusAnswer, Exchange]:
    """Ask once. The result comes to the question's URL; so does the word that there will be none."""
    fields = {
        "Initiator": initiator.name,
        "SecurityCredential": initiator.credential(),
        "CommandID": "TransactionStatusQuery",
        "PartyA": question.shortcode.party_b,
        "IdentifierType": _IDENTIFIER_TYPE[question.shortcode.kind],
        "ResultURL": question.result_url,
        "QueueTimeOutURL": question.result_url,
        "Remarks": "Status",
        "Occasion": "",
    }
    if question.receipt is not None:
        fields["TransactionID"] = question.receipt
    else:
        fields["OriginalConversationID"] = question.conversation_id
    return await post(
        client, token, "status", STATUS_PATH, fields, read=_answer, name=_name_of, secret="SecurityCredential"
    )


def _answer(answer: HttpAnswer | NoAnswer) -> StatusAnswer:
    if isinstance(answer, NoAnswer):
        return NothingLearned(answer.why)
    return read_acknowledgement(answer.status, answer.headers, answer.body)


def _name_of(answer: StatusAnswer) -> str:
    return f"NothingLearned {answer.code}" if isinstance(answer, NothingLearned) else "Asked"
