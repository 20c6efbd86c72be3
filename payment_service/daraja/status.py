"""Transaction Status, asked by receipt or by conversation: the question, and the result that Safaricom posts later.

From "Daraja: Transaction Status" and recorded results. The answer to the question only says that it was taken. Asking
moves no money, so it may be asked again; that a wrong password locks is for the caller to mind.

Results come with codes as numbers, texts or letters, parameters as a list, as a lone object, without their wrapper or
with its two names exchanged, keys with spaces and without values, the same key twice, times in three forms. Only one
kind of result is evidence: a completed transaction with its receipt, its amount and the conversation it came of.
Whatever else a result says, it says of the question, not of the payment; and a post to the timeout address, which has
the shape of a result, says that there will be no answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import NothingLearned, learned, lenient_json, read_nothing
from payment_service.daraja.fields import NAIROBI, is_id, nairobi_time, read_amount, read_receipt
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.domain.facts import NothingTold, ResultReported, Source, Verdict

STATUS_PATH = "/mpesa/transactionstatus/v1/query"

_IDENTIFIER_TYPE = {ShortcodeKind.TILL: "2", ShortcodeKind.PAYBILL: "4"}

INITIATOR_REFUSED_CODES = frozenset({"2001", "8006"})
"""The initiator's name or password is wrong, or the password is locked; a third wrong one in a row locks it."""

TOKEN_ALARM = (
    "Daraja refuses our token for Transaction Status: check that the app has that product and that its keys belong to"
    " this environment. Prompts are not affected."
)

_DONE = "0"

_COMPLETED = "completed"

_DOTTED = "%d.%m.%Y %H:%M:%S"


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """Which transaction is asked for: by its receipt number, or where there is none by the conversation it came of."""

    shortcode: Shortcode
    """Only who was paid may ask."""
    receipt: str | None
    conversation_id: str
    result_url: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The question was taken; its result comes later, or never."""


StatusAnswer = Asked | NothingLearned


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
        client,
        token,
        "status",
        STATUS_PATH,
        fields,
        read=learned(read_acknowledgement),
        name=_name_of,
        secret="SecurityCredential",
    )


def _name_of(answer: StatusAnswer) -> str:
    return f"NothingLearned {answer.code}" if isinstance(answer, NothingLearned) else "Asked"


def read_acknowledgement(status: int, headers: Mapping[str, str], body: bytes) -> StatusAnswer:
    """What the answer to the question itself says. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    code = value.get("ResponseCode") if isinstance(value, dict) else None
    if status == 200 and (code == _DONE or (type(code) is int and code == 0)):
        return Asked()
    return read_nothing(status, headers, body, TOKEN_ALARM)


def read_status_result(body: bytes, fact_id: str) -> ResultReported | NothingTold:
    """The money that a result tells of, or why it tells of none."""
    result = _result_in(body)
    code = _code_of(result)
    if result is None or code is None:
        return NothingTold(fact_id, "no Result with a ResultCode")
    if code != _DONE:
        return NothingTold(fact_id, f"the question was answered with code {code}")
    values = _values(result)
    receipt, amount = read_receipt(_only(values, "ReceiptNo")), _amount(_only(values, "Amount"))
    conversation = _only(values, "OriginatorConversationID")
    status = _only(values, "TransactionStatus")
    if not isinstance(status, str) or status.lower() != _COMPLETED:
        return NothingTold(fact_id, "no completed transaction")
    if receipt is None or amount is None or not isinstance(conversation, str) or not is_id(conversation):
        return NothingTold(fact_id, "a completed transaction without receipt, amount or conversation")
    return ResultReported(
        fact_id=fact_id,
        source=Source.STATUS,
        verdict=Verdict.PAID,
        code=_DONE,
        merchant_request_id=conversation,
        amount=amount,
        receipt=receipt,
        transaction_at=_time(_only(values, "FinalisedTime")),
    )


def initiator_refused(body: bytes) -> str | None:
    """The code by which a result refuses our initiator; None for every other result."""
    code = _code_of(_result_in(body))
    return code if code in INITIATOR_REFUSED_CODES else None


def _result_in(body: bytes) -> dict[str, object] | None:
    value = lenient_json(body)
    # Results without the outer object were recorded in 2020.
    result = value.get("Result", value) if isinstance(value, dict) else None
    return result if isinstance(result, dict) else None


def _code_of(result: dict[str, object] | None) -> str | None:
    """The code; a number, digits or letters. False is an int that equals 0, and must not read as done."""
    code = result.get("ResultCode") if result is not None else None
    text = str(code) if type(code) is int else code
    return text if isinstance(text, str) and text.isascii() and text.isalnum() and len(text) <= 12 else None


def _values(result: Mapping[str, object]) -> dict[str, list[object]]:
    """What the parameters say, by key without its spaces. A key without a value says nothing."""
    found: dict[str, list[object]] = {}
    for parameter in _parameters(result):
        key, value = parameter.get("Key"), parameter.get("Value")
        if isinstance(key, str) and value is not None and value != "":
            found.setdefault(key.replace(" ", ""), []).append(value)
    return found


def _parameters(result: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The parameters, under either of the two names, in or out of the other, many or one."""
    listed: object = result.get("ResultParameters", result.get("ResultParameter"))
    if isinstance(listed, dict) and "Key" not in listed:
        listed = listed.get("ResultParameter", listed.get("ResultParameters"))
    for one in listed if isinstance(listed, list) else [listed]:
        if isinstance(one, dict):
            yield one


def _only(values: Mapping[str, list[object]], key: str) -> object:
    """The value of a key; what comes twice and says two things says nothing."""
    told = values.get(key, [])
    return told[0] if told and all(value == told[0] for value in told) else None


def _amount(value: object) -> int | str | None:
    return None if value is None else read_amount(value)


def _time(value: object) -> datetime | None:
    if isinstance(value, str) and "." in value:
        try:
            return datetime.strptime(value, _DOTTED).replace(tzinfo=NAIROBI)
        except ValueError:
            return None
    return nairobi_time(value)
