"""Starting another attempt for a booking, as an earlier one was asked for.

What is copied never changes in the earlier payment, so it is read before the
new one is decided on. Whether the booking allows another attempt is decided
where every payment is made.
"""

from collections.abc import Sequence
from datetime import datetime

from payment_service.application.collecting.account_references import ACCOUNT_CODE_LENGTH
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.following.read_payments import reading, request_id_known
from payment_service.domain.errors import InvalidRequest, PaymentNotFound, Violation
from payment_service.domain.payment import (
    LatePaymentPolicy,
    PaymentRequest,
    PhoneWarning,
    RetryRequest,
    ShortcodeLimits,
)
from payment_service.domain.views import Answered
from payment_service.security.sealing import PHONE_NUMBER, Sealer
from payment_service.store import reads
from payment_service.store.reads import RequestRow


async def retry_payment(
    initiate: InitiatePayments,
    shortcodes: Sequence[ShortcodeLimits],
    now: datetime,
    caller: str,
    retry: RetryRequest,
    warning: PhoneWarning | None,
    wait_until: float,
    trace_parent: str | None,
) -> Answered:
    """The new payment, made and sent as every payment is; `warning` is about the retry's own number, if any.

    `shortcodes` are those that this service is set up with. Raises PaymentNotFound, InvalidRequest where the shortcode
    no longer takes such a payment or nobody's number is known, and what `create_payment` raises.
    """
    async with reading(initiate.reads) as connection:
        earlier = await reads.request_of(connection, caller, retry.payment_id)
    # Another caller's payment does not exist, as far as this one can tell.
    if earlier is None:
        raise PaymentNotFound
    barred = _barred_now(earlier, shortcodes)
    if barred is not None and not await request_id_known(initiate.reads, caller, retry.request_id):
        raise InvalidRequest([Violation("payment_id", barred)])
    request = _request(initiate.reads.sealer, retry, earlier, now)
    if not request.phone_number and not await request_id_known(initiate.reads, caller, retry.request_id):
        expected = "expected the number to ring: that of the earlier attempt was erased at its owner's wish"
        raise InvalidRequest([Violation("phone_number", expected)])
    if not retry.phone_number:
        warning = PhoneWarning(earlier.phone_warning) if earlier.phone_warning else None
    return await initiate(caller, request, warning, wait_until, trace_parent, retry)


def _barred_now(earlier: RequestRow, shortcodes: Sequence[ShortcodeLimits]) -> str | None:
    """What today's settings have against another attempt; it does not count against one that was taken before."""
    limits = next((one for one in shortcodes if one.number == earlier.shortcode), None)
    if limits is None:
        return f"expected a payment to a shortcode that is set up; {earlier.shortcode} no longer is"
    if not limits.takes(earlier.amount):
        return (
            f"expected a payment of {limits.amount_min} to {limits.amount_max}, which shortcode {limits.number} takes"
            f" now; this one is of {earlier.amount}"
        )
    return None


def _request(sealer: Sealer, retry: RetryRequest, earlier: RequestRow, now: datetime) -> PaymentRequest:
    hold = earlier.hold_expire_at
    return PaymentRequest(
        request_id=retry.request_id,
        booking_id=earlier.booking_id,
        phone_number=retry.phone_number
        or sealer.open(PHONE_NUMBER, retry.payment_id.bytes, earlier.phone_number).decode(),
        amount=earlier.amount,
        shortcode=earlier.shortcode,
        account_reference=_account_reference(earlier),
        description=earlier.description,
        language_code=earlier.language_code,
        metadata=earlier.metadata,
        # A hold that is over says nothing about the new attempt, whose money would all be late by it.
        hold_expire_at=hold if hold is not None and now < hold else None,
        late_payment_policy=LatePaymentPolicy(earlier.late_payment_policy),
    )


def _account_reference(earlier: RequestRow) -> str:
    """The caller's text, without the code that told the earlier attempt apart; none where our reference was shown."""
    shown = earlier.account_reference
    return "" if shown == earlier.reference else shown[:-ACCOUNT_CODE_LENGTH]
