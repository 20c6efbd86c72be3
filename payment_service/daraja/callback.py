"""The body of a callback, read into what it says of a payment. Pure, and it never raises.

Shapes are those of "Daraja: M-Pesa Express Simulate" and recorded messages. What a result code means stands in
`result_codes`. What the result does to a payment is decided elsewhere.
"""

from collections.abc import Callable
from typing import TypeVar, assert_never

from payment_service.daraja.fields import ID_MAX_CHARACTERS, is_id, nairobi_time, read_amount, read_receipt
from payment_service.daraja.result_codes import meaning_of, read_code
from payment_service.daraja.status import read_status_result
from payment_service.daraja.strict_json import NotStrictJson, read_strict_json
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import ResultReported, Source, Unreadable

T = TypeVar("T")


class _NotAResult(Exception):
    """The body is no callback; the text says why and quotes nothing of it."""


def read_callback(kind: CallbackKind, body: bytes, fact_id: str) -> ResultReported | Unreadable:
    """What a callback says of a payment, whatever is in there. The fact gets the id that is given."""
    match kind:
        case CallbackKind.STK:
            return _read_stk(body, fact_id)
        case CallbackKind.RESULT:
            return read_status_result(body, fact_id)
        case _:
            assert_never(kind)


def _read_stk(body: bytes, fact_id: str) -> ResultReported | Unreadable:
    try:
        return _read_result(fact_id, _callback_in(read_strict_json(body)))
    except (NotStrictJson, _NotAResult) as error:
        return Unreadable(fact_id, str(error))


def _callback_in(value: object) -> dict[str, object]:
    outer = value.get("Body") if isinstance(value, dict) else None
    callback = outer.get("stkCallback") if isinstance(outer, dict) else None
    if not isinstance(callback, dict):
        raise _NotAResult("no Body.stkCallback")
    return callback


def _read_result(fact_id: str, callback: dict[str, object]) -> ResultReported:
    code = read_code(callback.get("ResultCode"))
    if code is None:
        raise _NotAResult("ResultCode is no integer and no digits")
    meaning = meaning_of(code)
    items = _items(callback.get("CallbackMetadata"))
    return ResultReported(
        fact_id=fact_id,
        source=Source.CALLBACK,
        verdict=meaning.verdict,
        code=code,
        reason=meaning.reason,
        merchant_request_id=_id(callback, "MerchantRequestID"),
        checkout_request_id=_id(callback, "CheckoutRequestID"),
        amount=_agreed("Amount", read_amount, items["Amount"]),
        receipt=_agreed("MpesaReceiptNumber", read_receipt, items["MpesaReceiptNumber"]),
        transaction_at=_agreed("TransactionDate", nairobi_time, items["TransactionDate"]),
    )


def _id(callback: dict[str, object], name: str) -> str | None:
    value = callback.get(name)
    if value is None or value == "":
        return None
    if not is_id(value):
        raise _NotAResult(f"{name} is no text of at most {ID_MAX_CHARACTERS} printable characters")
    return str(value)


def _items(metadata: object) -> dict[str, list[object]]:
    """The values of the items we read, by name, never by place: the order is not fixed, and some come without a value.

    Items that we do not read are not looked at, whatever they are.
    """
    found: dict[str, list[object]] = {"Amount": [], "MpesaReceiptNumber": [], "TransactionDate": []}
    if metadata is None:
        return found
    if not isinstance(metadata, dict):
        raise _NotAResult("CallbackMetadata is no object")
    listed = metadata.get("Item")
    if isinstance(listed, dict):
        # Sister APIs send a list of one as the bare object.
        listed = [listed]
    if not isinstance(listed, list | None):
        raise _NotAResult("CallbackMetadata.Item is no list")
    for item in listed or ():
        if not isinstance(item, dict):
            continue
        name, value = item.get("Name"), item.get("Value")
        if isinstance(name, str) and name in found and value is not None:
            found[name].append(value)
    return found


def _agreed(name: str, read: Callable[[object], T], values: list[object]) -> T | None:
    """What the item says; an item that comes twice and says two things is no result."""
    readings = {read(value) for value in values}
    if len(readings) > 1:
        raise _NotAResult(f"{name} comes twice, with different values")
    return readings.pop() if readings else None
