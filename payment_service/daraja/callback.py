"""The body of a callback, read into what it says of a payment. Pure, and it never raises.

Shapes are those of "Daraja: M-Pesa Express Simulate" and recorded messages. Theory of operation: a callback comes once,
its token is true, and it may be the only news of somebody's money. So each field is read by itself, wherever it stands
and however it is wrapped, and a defect costs its own field and no other:

* what is readable counts; what is absent or unreadable contradicts nothing, but for an amount, which has to be right;
* what is said twice and differently is a contradiction: of a success, the money is then for a person to look at;
  of anything else, the body is `Unreadable`, and so is a failure that names a receipt;
* only the result code is indispensable. A body without a readable one is `Unreadable`, and never taken for "no money".

What a result code means stands in `result_codes`. What the result does to a payment is decided elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from payment_service.daraja.fields import is_id, nairobi_time, read_amount, read_receipt
from payment_service.daraja.json_reading import NotJson, Several, read_json
from payment_service.daraja.refund_posts import (
    read_b2c_post,
    read_b2c_status_post,
    read_reversal_post,
    read_reversal_status_post,
)
from payment_service.daraja.result_codes import meaning_of, read_code
from payment_service.daraja.status import read_status_result
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import UNREADABLE, NothingTold, ResultReported, Source, TakenBack, Unreadable, Verdict
from payment_service.domain.refund_facts import RefundPost, RefundReported, RefundTimedOut

T = TypeVar("T")

DEPTH_MAX = 8
"""How deep a result is looked for; as Safaricom writes it, it stands at the third level and its items at the sixth."""

_ITEMS = {"amount": "Amount", "mpesareceiptnumber": "MpesaReceiptNumber", "transactiondate": "TransactionDate"}


class _NotAResult(Exception):
    """The body is no result; the text says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class _Told(Generic[T]):
    """What a field says; `contradictory` where it says two things."""

    value: T | None = None
    contradictory: bool = False


def read_callback(
    kind: CallbackKind, body: bytes, fact_id: str
) -> ResultReported | TakenBack | NothingTold | Unreadable | RefundReported | RefundTimedOut | RefundPost:
    """What a callback says of a payment or a refund, whatever is in there. The fact gets the id that is given."""
    match kind:
        case CallbackKind.STK:
            return _read_stk(body, fact_id)
        case CallbackKind.RESULT:
            return read_status_result(body, fact_id)
        case CallbackKind.REVERSAL:
            return read_reversal_post(body, fact_id)
        case CallbackKind.REVERSAL_STATUS:
            return read_reversal_status_post(body, fact_id)
        case CallbackKind.BALANCE | CallbackKind.BALANCE_TIMEOUT:
            return NothingTold(fact_id, "it is about what our account has")
        case CallbackKind.B2C:
            return read_b2c_post(body, fact_id)
        case CallbackKind.B2C_STATUS:
            return read_b2c_status_post(body, fact_id)
        case CallbackKind.REVERSAL_TIMEOUT | CallbackKind.B2C_TIMEOUT:
            return RefundTimedOut(fact_id)
        case _:
            assert_never(kind)


def _read_stk(body: bytes, fact_id: str) -> ResultReported | Unreadable:
    try:
        return _read_result(fact_id, _result_in(read_json(body)))
    except (NotJson, _NotAResult) as error:
        return Unreadable(fact_id, str(error))


def _read_result(fact_id: str, result: dict[str, object]) -> ResultReported:
    meaning = meaning_of(code := _code(result))
    items = _items(result)
    amount: _Told[int | str] = _told(read_amount, items["Amount"])
    receipt = _told(read_receipt, items["MpesaReceiptNumber"])
    merchant, checkout = (_told(_id, _values(result, name)) for name in ("MerchantRequestID", "CheckoutRequestID"))
    if receipt.value is not None and meaning.verdict is not Verdict.PAID:
        raise _NotAResult("it names a receipt, and its code does not say paid")
    contradictory = any(told.contradictory for told in (amount, receipt, merchant, checkout))
    if contradictory and meaning.verdict is not Verdict.PAID:
        raise _NotAResult("it contradicts itself, and its code does not say paid")
    return ResultReported(
        fact_id=fact_id,
        source=Source.CALLBACK,
        verdict=meaning.verdict,
        code=code,
        reason=meaning.reason,
        merchant_request_id=merchant.value,
        checkout_request_id=checkout.value,
        # Of a contradiction nothing is believed: as with an amount that cannot be read, a person looks at the money.
        amount=UNREADABLE if contradictory else amount.value,
        receipt=receipt.value,
        transaction_at=_told(nairobi_time, items["TransactionDate"]).value,
    )


def _result_in(value: object) -> dict[str, object]:
    """The one object that has a result code, wherever it stands."""
    found = list(_results_in(value, 1))
    if len(found) != 1:
        raise _NotAResult("no ResultCode" if not found else "more than one result")
    return found[0]


def _results_in(value: object, depth: int) -> Iterator[dict[str, object]]:
    value = _opened(value)
    if depth > DEPTH_MAX:
        return
    if isinstance(value, dict):
        if any(_folded(key) == "resultcode" for key in value):
            yield value
            return
        value = list(value.values())
    if isinstance(value, list | Several):
        for inner in value:
            yield from _results_in(inner, depth + 1)


def _code(result: dict[str, object]) -> str:
    codes = {read_code(value) for value in _values(result, "ResultCode")}
    code = codes.pop()
    if codes:
        raise _NotAResult("ResultCode comes twice, with different values")
    if code is None:
        raise _NotAResult("ResultCode is no integer and no digits")
    return code


def _items(result: dict[str, object]) -> dict[str, list[object]]:
    """The values of the items we read, by name, never by place: the order is not fixed, and some come without a value.

    Items that we do not read are not looked at, whatever they are.
    """
    found: dict[str, list[object]] = {name: [] for name in _ITEMS.values()}
    for metadata in _values(result, "CallbackMetadata"):
        for name, value in _named(metadata, 1):
            if name in _ITEMS and value is not None:
                found[_ITEMS[name]] += value if isinstance(value, Several) else [value]
    return found


def _named(value: object, depth: int) -> Iterator[tuple[str, object]]:
    """(folded name, value) of every item, in a list or bare, or as a key with its value."""
    value = _opened(value)
    if depth > DEPTH_MAX:
        return
    if isinstance(value, dict):
        names = [name for name in _values(value, "Name") if isinstance(name, str)]
        if names:
            for name in names:
                yield from ((_folded(name), one) for one in _values(value, "Value"))
            return
        for key, inner in value.items():
            if _folded(key) in _ITEMS:
                yield _folded(key), inner
            else:
                yield from _named(inner, depth + 1)
    elif isinstance(value, list | Several):
        for inner in value:
            yield from _named(inner, depth + 1)


def _opened(value: object) -> object:
    """The value; of a text that is JSON of its own, what that says."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return read_json(value.encode("utf-8", "replace"))
    except NotJson:
        return value


def _values(value: dict[str, object], name: str) -> list[object]:
    """All values of a key, in whatever case it is written."""
    found: list[object] = []
    for key, one in value.items():
        if _folded(key) == _folded(name):
            found += one if isinstance(one, Several) else [one]
    return found


def _folded(name: str) -> str:
    return name.strip().casefold()


def _told(read: Callable[[object], T | None], values: list[object]) -> _Told[T]:
    """What the values say together; one that cannot be read says nothing beside one that can."""
    readings = {reading for value in values if (reading := read(value)) is not None}
    if len(readings) > 1:
        return _Told(contradictory=True)
    return _Told(readings.pop() if readings else None)


def _id(value: object) -> str | None:
    text = value.strip() if isinstance(value, str) else None
    return text if text is not None and is_id(text) else None
