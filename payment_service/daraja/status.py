"""Transaction Status, asked by receipt or by conversation: the question, and the result that Safaricom posts later.

From "Daraja: Transaction Status" and recorded results. How a question is asked stands in `questions`, and how a result
is taken apart, in `results`. Only one kind of result is evidence: a transaction that is completed, or was and has been
reversed, with its receipt, its amount and the conversation it came of. Whatever else a result says, it says of the
question, not of the payment.
"""

from dataclasses import dataclass

from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.fields import is_id, read_receipt
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.questions import Asked, ask
from payment_service.daraja.results import DONE, INITIATOR_REFUSED_CODES, read_result
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.facts import NothingTold, ResultReported, Source, TakenBack, Verdict

STATUS_PATH = "/mpesa/transactionstatus/v1/query"

TOKEN_ALARM = (
    "Daraja refuses our token for Transaction Status: check that the app has that product and that its keys belong to"
    " this environment. Prompts are not affected."
)

_COMPLETED, _REVERSED = "completed", "reversed"


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
) -> tuple[Asked | NothingLearned, Exchange]:
    """Ask once. The result comes to the question's URL; so does the word that there will be none."""
    fields = {
        "CommandID": "TransactionStatusQuery",
        "ResultURL": question.result_url,
        "QueueTimeOutURL": question.result_url,
        "Remarks": "Status",
        "Occasion": "",
    }
    if question.receipt is not None:
        fields["TransactionID"] = question.receipt
    else:
        fields["OriginalConversationID"] = question.conversation_id
    return await ask(
        client,
        token,
        "status",
        STATUS_PATH,
        fields,
        initiator=initiator,
        shortcode=question.shortcode,
        token_alarm=TOKEN_ALARM,
    )


def read_status_result(body: bytes, fact_id: str) -> ResultReported | TakenBack | NothingTold:
    """The money that a result tells of, come or gone, or why it tells of none."""
    result = read_result(body)
    if result.code is None:
        return NothingTold(fact_id, "no Result with a ResultCode")
    if result.code != DONE:
        return NothingTold(fact_id, f"the question was answered with code {result.code}")
    receipt, amount = read_receipt(result.only("ReceiptNo")), result.amount("Amount")
    conversation, status = result.only("OriginatorConversationID"), result.only("TransactionStatus")
    if not isinstance(status, str) or status.lower() not in (_COMPLETED, _REVERSED):
        return NothingTold(fact_id, "no completed transaction")
    if receipt is None or amount is None or not isinstance(conversation, str) or not is_id(conversation):
        return NothingTold(fact_id, "a transaction without receipt, amount or conversation")
    if status.lower() == _REVERSED:
        return TakenBack(fact_id, Source.STATUS, receipt, amount, receipt=receipt, conversation_id=conversation)
    return ResultReported(
        fact_id=fact_id,
        source=Source.STATUS,
        verdict=Verdict.PAID,
        code=DONE,
        merchant_request_id=conversation,
        amount=amount,
        receipt=receipt,
        transaction_at=result.time("FinalisedTime"),
    )


def initiator_refused(body: bytes) -> str | None:
    """The code by which a result refuses our initiator; None for every other result."""
    code = read_result(body).code
    return code if code in INITIATOR_REFUSED_CODES else None
