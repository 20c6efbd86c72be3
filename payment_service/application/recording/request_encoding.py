"""What a caller asked for, in one canonical form, and whether two requests are the same.

All methods that change something share one encoding and one namespace of
request ids. A request is kept sealed as it was asked, with a keyed fingerprint
beside it; how its id is kept from serving two requests at once is decided in
`store.caller_requests`.
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never
from uuid import UUID

from payment_service.domain.errors import RequestIdReused
from payment_service.domain.payment import CancelRequest, PaymentRequest, RetryRequest
from payment_service.domain.refund import RefundRequest
from payment_service.domain.tax_invoices import TaxInvoiceRequest
from payment_service.security.sealing import CALLER_REQUEST, REQUEST, Sealer
from payment_service.store.caller_requests import NewRequest, UsedId
from runtime.key_rings import KeyRing

REQUEST_ENCODING = 1
"""Version of the encoding that the fingerprint is made over."""

Asked = PaymentRequest | RetryRequest | CancelRequest | RefundRequest | TaxInvoiceRequest

_METHOD = "method"
_ERASED = "erased"
_OF_PERSON = frozenset({"phone_number", "metadata", "description"})
"""What names the payer, or may do so in a caller's own words."""


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """What a caller asked for, to be kept with the fact that follows from it, unless that is refused."""

    kept_id: UUID
    caller: str
    asked: CancelRequest | RefundRequest | TaxInvoiceRequest

    @property
    def key(self) -> tuple[str, str]:
        return self.caller, self.asked.request_id


def encoded(asked: Asked) -> bytes:
    """The canonical encoding, version `REQUEST_ENCODING`: sorted names, absent fields left out.

    A request without a method's name asks for a payment: the first ones were made when there was nothing else to ask.
    """
    return _canonical({name: value for name, value in _fields(asked).items() if value})


def fingerprint(key: bytes, encoding: bytes) -> bytes:
    """The keyed fingerprint of an encoding, 32 bytes."""
    return hmac.digest(key, bytes([REQUEST_ENCODING]) + encoding, "sha256")


def fingerprint_holds(ring: KeyRing, key_id: str, version: int, encoding: bytes, claimed: bytes) -> bool:
    """Whether `claimed` is the fingerprint of an encoding, by the key and the version that its row names."""
    key = ring.keys.get(key_id)
    return key is not None and hmac.compare_digest(hmac.digest(key, bytes([version]) + encoding, "sha256"), claimed)


def without_person(encoding: bytes) -> bytes:
    """The same request without its payer, marked as such; once more, it is the same."""
    return _canonical(_impersonal(json.loads(encoding)))


def _canonical(present: Mapping[str, object]) -> bytes:
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _impersonal(asked: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in asked.items() if name not in _OF_PERSON} | {_ERASED: True}


def request_row(sealer: Sealer, ring: KeyRing, request: KeptRequest, now: datetime) -> NewRequest:
    """A request that makes no payment, as it is kept."""
    encoding = encoded(request.asked)
    return NewRequest(
        kept_id=request.kept_id,
        caller=request.caller,
        request_id=request.asked.request_id,
        payment_id=request.asked.payment_id,
        request=sealer.seal(CALLER_REQUEST, request.kept_id.bytes, encoding),
        request_fingerprint=fingerprint(ring.current_key, encoding),
        request_encoding=REQUEST_ENCODING,
        request_key_id=ring.current_id,
        kept_at=now,
    )


def conflict(
    sealer: Sealer, ring: KeyRing, used: UsedId, asked: Asked, *, made_with: str = ""
) -> RequestIdReused | None:
    """What is wrong with asking this under an id that has been used; None where it was used for the same.

    `made_with` is the shortcode of the payment that the id has made: leaving it out or naming it is the same.
    """
    asks = encoded(asked)
    if hmac.compare_digest(fingerprint(ring.keys[used.key_id], asks), used.fingerprint):
        return None
    place = REQUEST if used.kept_id == used.payment_id else CALLER_REQUEST
    before = json.loads(sealer.open(place, used.kept_id.bytes, used.sealed))
    now = json.loads(asks)
    if _ERASED in before:
        # Whether it was the same payer nobody can tell any more; it was the same id, booking and amount.
        now = _impersonal(now)
    fields = _differing({"shortcode": made_with, **before}, {"shortcode": made_with, **now})
    return RequestIdReused(used.payment_id, fields) if fields else None


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> tuple[str, ...]:
    """The fields in which two requests differ."""
    if before.get(_METHOD) != now.get(_METHOD):
        # What two methods call their fields says nothing more.
        return (_METHOD,)
    return tuple(sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)))


def _fields(asked: Asked) -> dict[str, object]:
    match asked:
        case PaymentRequest():
            return {
                "request_id": asked.request_id,
                "booking_id": asked.booking_id,
                "phone_number": asked.phone_number,
                "amount": asked.amount,
                "shortcode": asked.shortcode,
                "account_reference": asked.account_reference,
                "description": asked.description,
                "language_code": asked.language_code,
                "metadata": dict(asked.metadata),
                "hold_expire_time": asked.hold_expire_at and asked.hold_expire_at.isoformat(),
                "late_payment_policy": asked.late_payment_policy.value,
            }
        case RetryRequest():
            return _naming("RetryPayment", asked.request_id, asked.payment_id) | {"phone_number": asked.phone_number}
        case CancelRequest():
            return _naming("CancelPayment", asked.request_id, asked.payment_id)
        case RefundRequest():
            return _naming("RefundPayment", asked.request_id, asked.payment_id) | {
                "reason": asked.reason.value,
                "amount": asked.amount,
                "operator": asked.operator,
                "why": asked.why,
            }
        case TaxInvoiceRequest():
            return _naming("AttachTaxInvoice", asked.request_id, asked.payment_id) | {
                "invoice_number": asked.tax_invoice.invoice_number,
                "control_unit_number": asked.tax_invoice.control_unit_number,
                "verification_url": asked.tax_invoice.verification_url,
                "issue_time": asked.tax_invoice.issued_at.isoformat(),
                "replaces": asked.replaces,
                "why": asked.why,
            }
        case _:
            assert_never(asked)


def _naming(method: str, request_id: str, payment_id: UUID) -> dict[str, object]:
    return {_METHOD: method, "request_id": request_id, "payment_id": str(payment_id)}
