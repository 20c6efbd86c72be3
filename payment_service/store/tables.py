"""The tables, as SQLAlchemy Core sees them. The migrations make them; a test holds the two together.

Personal data is sealed (`LargeBinary` columns named in `security.sealing`), and looked up by keyed blind indexes
(`…_index_a`; `…_index_b` is not used: an index key is replaced while no service runs). Events hold no personal data at
all: they are kept as long as payments are, and never changed.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData()

STATUS_SQL = """CASE state
    WHEN 'CREATED' THEN 'PENDING' WHEN 'SENDING' THEN 'PENDING'
    WHEN 'PROMPTED' THEN 'PROCESSING' WHEN 'UNCERTAIN' THEN 'PROCESSING'
    WHEN 'REFUNDING' THEN 'COMPLETED' ELSE state END"""


UNSETTLED_SQL = """due_at IS NOT NULL AND ((state = 'EXPIRED' AND NOT outcome_certain)
    OR (state = 'COMPLETED' AND mpesa_receipt_number IS NULL))"""
"""Payments whose money may still be found: an index has these alone."""

DOUBTED_SQL = "kind IN ('UNCLAIMED_MONEY', 'FOREIGN_IDS')"
"""Cases about a receipt that its own proof ends: an index has the open ones alone."""


def required(name: str, kind: TypeEngine[Any], default: str | None = None) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=text(default) if default else None)


def when(name: str, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


payments = Table(
    "payment_transactions",
    metadata,
    required("payment_id", Uuid()),
    required("caller", Text()),
    required("request_id", Text()),
    required("reference", Text()),
    required("booking_id", Text()),
    required("attempt", Integer()),
    Column("retry_of", Uuid()),
    # What was asked for.
    required("amount", Numeric(10, 2)),
    required("shortcode", Text()),
    required("phone_number", LargeBinary()),
    required("phone_index_a", LargeBinary()),
    Column("phone_index_b", LargeBinary()),
    Column("phone_warning", Text()),
    required("account_reference", Text()),
    required("transaction_desc", Text()),
    required("language_code", Text()),
    required("metadata", JSONB()),
    when("hold_expire_at"),
    required("late_payment_policy", Text()),
    when("pay_by_hand_until"),
    required("request", LargeBinary()),
    required("request_fingerprint", LargeBinary()),
    required("request_encoding", SmallInteger()),
    required("request_key_id", Text()),
    Column("trace_parent", Text()),
    # Where it stands.
    required("state", Text()),
    Column("status", Text(), Computed(STATUS_SQL, persisted=True), nullable=False),
    Column("status_reason", Text()),
    Column("provider_result_code", Text()),
    required("version", Integer()),
    required("receipt_versions", Integer(), "0"),
    required("booking_action", Text()),
    required("outcome_certain", Boolean()),
    when("retry_allowed_at"),
    Column("mpesa_receipt_number", Text()),
    when("transaction_date"),
    required("paid_late", Boolean()),
    when("completed_at"),
    required("blocks_booking", Boolean()),
    required("said_confirm", Boolean()),
    required("money_case_open", Boolean()),
    Column("review_reason", Text()),
    Column("refund_id", Uuid()),
    Column("refund_status", Text()),
    required("refunded_amount", Numeric(10, 2), "0"),
    required("refund_under_way", Boolean(), "false"),
    required("seat_freed", Boolean(), "false"),
    # How it is being sent and settled.
    Column("claim_id", Uuid()),
    when("lease_expires_at"),
    when("sent_at"),
    required("not_sent_count", Integer()),
    when("send_at"),
    Column("checkout_request_id", LargeBinary()),
    Column("checkout_index_a", LargeBinary()),
    Column("checkout_index_b", LargeBinary()),
    Column("merchant_request_id", Text()),
    required("result_seen", Boolean()),
    when("paid_seen_at"),
    required("paid_twice", Boolean()),
    when("unpaid_seen_at"),
    Column("unpaid_proof", Text()),
    required("back_first", Boolean(), "false"),
    Column("backing", Text()),
    when("back_at"),
    required("ids_from_callback", Boolean(), "false"),
    required("unread_callback", Boolean(), "false"),
    when("due_at"),
    when("query_at"),
    required("query_count", Integer(), "0"),
    required("hint_count", Integer(), "0"),
    required("chain_hash", LargeBinary()),
    # Since when it names no payer any more.
    when("erased_at"),
    when("created_at", nullable=False),
    when("updated_at", nullable=False),
    when("expires_at", nullable=False),
    PrimaryKeyConstraint("payment_id", name="payments_pk"),
    UniqueConstraint("request_id", "caller", name="payments_one_per_request_id"),
    UniqueConstraint("reference", name="payments_one_per_reference"),
    UniqueConstraint("booking_id", "caller", "attempt", name="payments_one_per_attempt"),
    CheckConstraint("amount > 0 AND amount = trunc(amount)", name="payments_amount_whole"),
    CheckConstraint(
        "state IN ('CREATED', 'SENDING', 'PROMPTED', 'UNCERTAIN', 'COMPLETED', 'FAILED', 'CANCELLED', 'EXPIRED',"
        " 'REFUNDING', 'REFUNDED')",
        name="payments_state_known",
    ),
    CheckConstraint(
        "state <> 'SENDING' OR (claim_id IS NOT NULL AND lease_expires_at IS NOT NULL AND sent_at IS NOT NULL)",
        name="payments_sending_is_claimed",
    ),
    CheckConstraint(
        "state NOT IN ('COMPLETED', 'REFUNDING') OR completed_at IS NOT NULL OR money_case_open",
        name="payments_completed_has_time",
    ),
    CheckConstraint("state <> 'FAILED' OR status_reason IS NOT NULL", name="payments_failed_has_reason"),
    CheckConstraint(
        "booking_action <> 'CONFIRM' OR (said_confirm AND state = 'COMPLETED')", name="payments_confirm_is_completed"
    ),
    CheckConstraint(
        "state NOT IN ('FAILED', 'CANCELLED', 'EXPIRED', 'REFUNDED') OR NOT blocks_booking",
        name="payments_ended_blocks_nothing",
    ),
    Index("payments_by_caller", "caller", "payment_id"),
    Index("payments_by_phone", "phone_index_a", "payment_id"),
    Index("payments_by_completion", "completed_at", "payment_id", postgresql_where=text("completed_at IS NOT NULL")),
    Index("payments_by_status", "caller", "status", "payment_id"),
    Index(
        "payments_receipt_pending",
        "completed_at",
        postgresql_where=text("state = 'COMPLETED' AND mpesa_receipt_number IS NULL AND due_at IS NOT NULL"),
    ),
    Index("payments_by_account_reference", "account_reference", "created_at"),
    Index("payments_unsettled", "shortcode", "amount", "sent_at", postgresql_where=text(UNSETTLED_SQL)),
    Index("payments_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("payments_to_back", "back_at", postgresql_where=text("back_at IS NOT NULL")),
    Index("payments_erased", "erased_at", postgresql_where=text("erased_at IS NOT NULL")),
    Index("payments_to_ask_about", "query_at", postgresql_where=text("query_at IS NOT NULL")),
    Index(
        "payments_one_live_per_booking", "caller", "booking_id", unique=True, postgresql_where=text("blocks_booking")
    ),
    Index(
        "payments_one_confirm_per_booking", "caller", "booking_id", unique=True, postgresql_where=text("said_confirm")
    ),
    Index(
        "payments_one_per_receipt",
        "mpesa_receipt_number",
        unique=True,
        postgresql_where=text("mpesa_receipt_number IS NOT NULL"),
    ),
    Index(
        "payments_one_per_checkout_a",
        "checkout_index_a",
        unique=True,
        postgresql_where=text("checkout_index_a IS NOT NULL"),
    ),
    Index(
        "payments_one_per_checkout_b",
        "checkout_index_b",
        unique=True,
        postgresql_where=text("checkout_index_b IS NOT NULL"),
    ),
)

caller_requests = Table(
    "caller_requests",
    metadata,
    required("kept_id", Uuid()),
    required("caller", Text()),
    required("request_id", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="caller_requests_of_payment"), nullable=False),
    required("request", LargeBinary()),
    required("request_fingerprint", LargeBinary()),
    required("request_encoding", SmallInteger()),
    required("request_key_id", Text()),
    when("kept_at", nullable=False),
    PrimaryKeyConstraint("request_id", "caller", name="caller_requests_pk"),
    UniqueConstraint("kept_id", name="caller_requests_one_per_kept_id"),
    Index("caller_requests_by_payment", "payment_id"),
)

log = Table(
    "event_log",
    metadata,
    required("singleton", Boolean(), "true"),
    required("log_id", Uuid()),
    PrimaryKeyConstraint("singleton", name="event_log_pk"),
    CheckConstraint("singleton", name="event_log_has_one_row"),
)

events = Table(
    "payment_events",
    metadata,
    Column("position", BigInteger(), Identity(always=True), nullable=False),
    required("tag", LargeBinary()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="events_of_payment"), nullable=False),
    required("version", Integer()),
    required("caller", Text()),
    required("event_type", Text()),
    required("fact_id", Text()),
    required("fact_kind", Text()),
    Column("previous_state", Text()),
    required("state", Text()),
    Column("status_reason", Text()),
    Column("provider_result_code", Text()),
    required("booking_action", Text()),
    required("outcome_certain", Boolean()),
    when("retry_allowed_at"),
    required("amount", Numeric(10, 2)),
    Column("mpesa_receipt_number", Text()),
    required("paid_late", Boolean()),
    when("completed_at"),
    when("expires_at", nullable=False),
    when("occurred_at", nullable=False),
    required("chain_encoding", SmallInteger()),
    required("chain_key_id", Text()),
    required("previous_hash", LargeBinary()),
    required("hash", LargeBinary()),
    Column("refund_id", Uuid()),
    Column("refund_status", Text()),
    required("refunded_amount", Numeric(10, 2), "0"),
    PrimaryKeyConstraint("position", name="events_pk"),
    UniqueConstraint("payment_id", "version", name="events_one_per_version"),
    UniqueConstraint("payment_id", "fact_id", name="events_one_per_fact"),
    Index("events_by_time", "occurred_at", postgresql_using="brin"),
)

inbox = Table(
    "callback_inbox",
    metadata,
    required("callback_id", Uuid()),
    required("kind", Text()),
    required("reference", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="callbacks_of_payment")),
    required("body", LargeBinary()),
    required("body_hash", LargeBinary()),
    required("source_address", Text()),
    when("received_at", nullable=False),
    when("stored_at", nullable=False),
    required("status", Text()),
    required("tries", Integer(), "0"),
    when("next_try_at"),
    Column("last_error", Text()),
    # What stands there then is an empty one, sealed.
    required("body_removed", Boolean(), "false"),
    PrimaryKeyConstraint("callback_id", name="callbacks_pk"),
    UniqueConstraint("reference", "body_hash", name="callbacks_one_per_body"),
    CheckConstraint("status IN ('APPLIED', 'PENDING', 'UNMATCHED', 'UNREAD', 'DEAD')", name="callbacks_status_known"),
    CheckConstraint("(status = 'PENDING') = (next_try_at IS NOT NULL)", name="callbacks_pending_has_next_try"),
    Index("callbacks_due", "next_try_at", postgresql_where=text("status = 'PENDING'")),
    Index("callbacks_by_payment", "payment_id"),
    Index("callbacks_with_body", "stored_at", postgresql_where=text("NOT body_removed")),
    Index("callbacks_unsettled", "status", "received_at", postgresql_where=text("status <> 'APPLIED'")),
)

replays = Table(
    "callback_replays",
    metadata,
    required("replay_id", Uuid()),
    Column("callback_id", Uuid(), ForeignKey(inbox.c.callback_id, name="replays_of_callback"), nullable=False),
    required("operator", Text()),
    required("reason", Text()),
    required("outcome", Text()),
    when("replayed_at", nullable=False),
    PrimaryKeyConstraint("replay_id", name="replays_pk"),
    Index("replays_by_callback", "callback_id"),
)

exchanges = Table(
    "daraja_exchanges",
    metadata,
    required("exchange_id", Uuid()),
    Column("payment_id", Uuid()),
    required("operation", Text()),
    Column("http_status", Integer()),
    required("classified_as", Text()),
    required("request", LargeBinary()),
    required("answer", LargeBinary()),
    when("started_at", nullable=False),
    required("duration_ms", Integer()),
    PrimaryKeyConstraint("exchange_id", name="exchanges_pk"),
    Index("exchanges_by_payment", "payment_id"),
)

cases = Table(
    "cases",
    metadata,
    required("case_id", Uuid()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="cases_of_payment")),
    required("reference", Text()),
    required("kind", Text()),
    required("is_money", Boolean()),
    required("fact_id", Text()),
    Column("mpesa_receipt_number", Text()),
    Column("amount", Numeric(10, 2)),
    when("opened_at", nullable=False),
    when("settled_at"),
    # The fact that has ended it: a proof, or what an operator decided.
    Column("settled_by", Text()),
    required("version", Integer(), "1"),
    Column("deadline_at", DateTime(timezone=True), nullable=False, server_default=text("now() + interval '24 hours'")),
    Column("owner", Text()),
    when("taken_at"),
    # How an operator has settled it; none where it has ended by itself.
    Column("resolution", Text()),
    # The latest one by which an operator has its money sent back.
    Column("refund_id", Uuid()),
    PrimaryKeyConstraint("case_id", name="cases_pk"),
    UniqueConstraint("reference", "fact_id", name="cases_one_per_fact"),
    Index("cases_by_deadline", "deadline_at", "case_id", postgresql_where=text("settled_at IS NULL")),
    Index("cases_by_receipt", "mpesa_receipt_number", postgresql_where=text("mpesa_receipt_number IS NOT NULL")),
    Index("cases_moved", "payment_id", postgresql_where=text("resolution = 'MOVE'")),
    Index("cases_open", "opened_at", postgresql_where=text("settled_at IS NULL")),
    Index("cases_open_by_payment", "payment_id", postgresql_where=text("settled_at IS NULL")),
    Index(
        "cases_doubted_money",
        "mpesa_receipt_number",
        postgresql_where=text(f"settled_at IS NULL AND {DOUBTED_SQL}"),
    ),
)

case_acts = Table(
    "case_acts",
    metadata,
    required("act_id", Uuid()),
    Column("case_id", Uuid(), ForeignKey(cases.c.case_id, name="case_acts_of_case"), nullable=False),
    # The version that the act has made of the case.
    required("case_version", Integer()),
    required("act", Text()),
    required("operator", Text()),
    required("reason", Text()),
    Column("mpesa_receipt_number", Text()),
    Column("refund_id", Uuid()),
    when("acted_at", nullable=False),
    Column("to_payment_id", Uuid()),
    PrimaryKeyConstraint("act_id", name="case_acts_pk"),
    UniqueConstraint("case_id", "case_version", name="case_acts_one_per_version"),
    Index("case_acts_one_per_proof", "mpesa_receipt_number", unique=True, postgresql_where=text("act = 'REFUNDED'")),
)

receipts = Table(
    "mpesa_receipts",
    metadata,
    required("receipt", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="receipts_of_payment"), nullable=False),
    Column("amount", Numeric(10, 2)),
    required("counted", Boolean()),
    when("seen_at", nullable=False),
    # What has shown beside a callback that the receipt is this payment's.
    Column("proven_by", Text()),
    PrimaryKeyConstraint("receipt", name="receipts_pk"),
    Index("receipts_by_payment", "payment_id"),
)
