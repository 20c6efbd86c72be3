"""What a row tells of a payment beside its own columns: its refunds, and whether it may be paid by hand."""

from typing import Any, Final

from sqlalchemy import ColumnElement, literal_column

from payment_service.store.tables import events, payments

# It ended with what the event tells of, and no later event tells of its end.
ENDED_BY_THE_EVENT: Final = f"""r.ended_at <= {events.name}.occurred_at AND NOT EXISTS (
                SELECT FROM payment_events later WHERE later.payment_id = r.payment_id
                AND later.refund_id = r.refund_id AND later.version > {events.name}.version)"""


def refunds_told(owner: str, ended_by_then: str) -> ColumnElement[Any]:
    """The refunds of the payment in a row of this table, as the log had told of them by the row's version.

    What of a refund never changes once it has ended is its own row's; its status is what was told last. The log tells
    nothing of the end of a refund that another one has made needless: that is its own row's, too, if `ended_by_then`.
    """
    return literal_column(f"""CASE WHEN {owner}.refund_id IS NOT NULL THEN (
        SELECT jsonb_agg(jsonb_build_object('refund_id', r.refund_id, 'receipt', r.receipt, 'status',
            CASE WHEN told.refund_status = 'PENDING' AND {ended_by_then} THEN r.state ELSE told.refund_status END,
            'amount', r.amount, 'reason', r.reason, 'requested_at', r.requested_at, 'ended_at', r.ended_at)
            ORDER BY r.requested_at, r.refund_id)
        FROM (SELECT DISTINCT ON (t.refund_id) t.refund_id, t.refund_status FROM payment_events t
            WHERE t.payment_id = {owner}.payment_id AND t.version <= {owner}.version AND t.refund_id IS NOT NULL
            ORDER BY t.refund_id, t.version DESC) AS told JOIN refunds r USING (refund_id)) END""").label("refunds")


def by_hand_until(owner: str) -> ColumnElement[Any]:
    """Until when the payment of a row of this table may be paid by hand, as its booking stands now.

    Another attempt may be made only where the service agrees, but nobody is asked before money is sent by hand: so it
    is offered for the last attempt alone, and never beside another one that was paid or that a person looks at.
    `caller || ''` can use no index, so that the one that begins with the booking is taken.
    """
    mine = payments.name
    return literal_column(f"""CASE WHEN {owner}.booking_action = 'OFFER_RETRY' AND {mine}.pay_by_hand_until IS NOT NULL
        AND NOT EXISTS (SELECT FROM payment_transactions other
            WHERE other.booking_id = {mine}.booking_id AND other.caller || '' = {mine}.caller
            AND other.payment_id <> {mine}.payment_id
            AND (other.attempt > {mine}.attempt OR other.completed_at IS NOT NULL OR other.money_case_open))
        THEN {mine}.pay_by_hand_until END""").label("pay_by_hand_until")
