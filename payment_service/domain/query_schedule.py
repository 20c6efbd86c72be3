"""When Safaricom is asked what became of a push, for as long as the answer can change something.

Asking costs a turn that all payments share, so the looks come at a falling rate: while the passenger decides, then
ever more seldom until the watch ends. Some moments are worth a look of their own: just before somebody gives up on the
payment, and as soon as a second "paid" is as good as a receipt. What an answer does is decided in `transitions`.
"""

from collections.abc import Sequence
from datetime import datetime

from payment_service.domain.payment import Backing, Payment, State, Times
from payment_service.domain.standings import Standing, standing

JITTER_SHARE = 0.2
"""By how much of itself a wait is lengthened at most, so that payments made together are not asked about together."""


def worth_asking(payment: Payment) -> bool:
    """Whether an answer could say something new. Without a CheckoutRequestID there is nothing to ask by."""
    if payment.checkout_request_id is None:
        return False
    match standing(payment):
        case Standing.PROMPTED | Standing.UNCERTAIN_NO_RESULT | Standing.UNCERTAIN_RESULT_SEEN:
            return True
        case Standing.RECEIPT_PENDING:
            return not payment.paid_twice
        case Standing.FAILED_BY_QUERY | Standing.CANCELLED_BY_QUERY:
            return True
        case Standing.COMPLETED_BY_CALLBACK:
            # The booking waits for it; of other such successes `back_at` says when to ask.
            return payment.back_first and _query_backs(payment)
        case Standing.EXPIRED:
            return not payment.outcome_certain
        case _:
            return False


def query_at(before: Payment, after: Payment, now: datetime, times: Times) -> datetime | None:
    """When to ask next, after a change: as planned before, if it is still worth it and nothing made it more so."""
    if not worth_asking(after):
        return None
    if after.paid_seen_at is not None and after.paid_seen_at != before.paid_seen_at:
        return after.paid_seen_at + times.second_look_after
    if standing(after) is Standing.COMPLETED_BY_CALLBACK and standing(before) is not standing(after):
        return now
    if after.state is before.state and worth_asking(before):
        return after.query_at
    if after.state in (State.FAILED, State.CANCELLED):
        # Only a query told of the end. The second look proves it, once the prompt is gone.
        return max(now, (after.sent_at or after.created_at) + times.retry_wait)
    return after.query_at or max(now, (after.sent_at or after.created_at) + times.query_after)


def back_at(before: Payment, after: Payment, now: datetime, times: Times) -> datetime | None:
    """When to ask next about money that only a callback has told of, where no booking waits for it: as planned before,
    or once the books have most probably been read. At once where a part is to go back, which waits for that."""
    if standing(after) is not Standing.COMPLETED_BY_CALLBACK or after.back_first or not _query_backs(after):
        return None
    if after.refund_under_way and not before.refund_under_way:
        return now
    return after.back_at or now + times.back_after


def _query_backs(payment: Payment) -> bool:
    """Whether a query can tell more than the callback: it is asked by an id that no callback may have brought."""
    known = payment.checkout_request_id is not None and not payment.ids_from_callback
    return known and payment.backing is Backing.AWAITED


def next_back_at(now: datetime, completed_at: datetime, draw: float, times: Times) -> datetime | None:
    """When to ask again about money that nothing has backed; None when it is an operator's by then.

    Each wait is as long as all before it together. `draw` is chance, from 0 to 1.
    """
    end = completed_at + times.backed_within
    at = now + max(times.query_after / 2, now - completed_at) * (1 + JITTER_SHARE * draw)
    last = end - times.last_look_before
    at = last if now < last < at else at
    return at if at < end else None


def next_query_at(
    now: datetime, asked: int, deadlines: Sequence[datetime], watch_until: datetime, draw: float, times: Times
) -> datetime | None:
    """When to ask again after asking for the `asked`-th time; None when the watch is over by then.

    `deadlines` are the moments by which somebody wants to know. `draw` is chance, from 0 to 1.
    """
    # The first wait after the first look is half as long as the look came after the send: 30, 45, 75, 135 s …
    doublings = min(asked - 1, 30)
    wait = min(times.query_after / 2 * 2**doublings, times.query_wait_max)
    at = now + wait * (1 + JITTER_SHARE * draw)
    lasts = [deadline - times.last_look_before for deadline in (*deadlines, watch_until)]
    last_looks = [last for last in lasts if now < last < at]
    at = min([at, *last_looks])
    return at if at < watch_until else None
