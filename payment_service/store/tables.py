"""The tables, as SQLAlchemy Core sees them. The migrations make them; a test holds the two together.

Personal data is sealed (`LargeBinary` columns named in `security.sealing`), and
looked up by keyed blind indexes; `…_index_b` is there so that the index key can
be replaced. Events hold no personal data at all: they are kept as long as
payments are, and never changed.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
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


def _required(name: str, kind: TypeEngine[Any], default: str | None = None) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=text(default) if default else None)


def _when(name: str, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


payments = Table(
    "payment_transactions",
    metadata,
    _required("payment_id", Uuid()),
    _required("caller", Text()),
    _required("request_id", Text()),
    _required("reference", Text()),
    _required("booking_id", Text()),
    _required("attempt", Integer()),
    Column("retry_of", Uuid()),
    # What was asked for.
    _required("amount", Numeric(10, 2)),
    _required("shortcode", Text()),
    _required("phone_number", LargeBinary()),
    _required("phone_index_a", LargeBinary()),
    Column("phone_index_b", LargeBinary()),
    Column("phone_warning", Text()),
    _required("account_reference", Text()),
    _required("transaction_desc", Text()),
    _required("language_code", Text()),
    _required("metadata", JSONB()),
    _when("hold_expire_at"),
    _required("late_payment_policy", Text()),
    _required("request", LargeBinary()),
    _required("request_fingerprint", LargeBinary()),
    _required("request_encoding", SmallInteger()),
    _required("request_key_id", Text()),
    Column("trace_parent", Text()),
    # Where it stands.
    _required("state", Text()),
    Column("status", Text(), Computed(STATUS_SQL, persisted=True), nullable=False),
    Column("status_reason", Text()),
    Column("provider_result_code", Text()),
    _required("version", Integer()),
    _required("booking_action", Text()),
    _required("outcome_certain", Boolean()),
    _when("retry_allowed_at"),
    Column("mpesa_receipt_number", Text()),
    _when("transaction_date"),
    _required("paid_late", Boolean()),
    _when("completed_at"),
    _required("blocks_booking", Boolean()),
    _required("said_confirm", Boolean()),
    _required("money_case_open", Boolean()),
    # How it is being sent and settled.
    Column("claim_id", Uuid()),
    _when("lease_expires_at"),
    _when("sent_at"),
    _required("not_sent_count", Integer()),
    _when("send_at"),
    Column("checkout_request_id", LargeBinary()),
    Column("checkout_index_a", LargeBinary()),
    Column("checkout_index_b", LargeBinary()),
    Column("merchant_request_id", Text()),
    _required("result_seen", Boolean()),
    _when("paid_seen_at"),
    _required("paid_twice", Boolean()),
    _when("due_at"),
    _when("query_at"),
    _required("query_count", Integer(), "0"),
    _required("chain_hash", LargeBinary()),
    _when("created_at", nullable=False),
    _when("updated_at", nullable=False),
    _when("expires_at", nullable=False),
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
    Index("payments_by_status", "caller", "status", "payment_id"),
    Index(
        "payments_receipt_pending",
        "completed_at",
        postgresql_where=text("state = 'COMPLETED' AND mpesa_receipt_number IS NULL AND due_at IS NOT NULL"),
    ),
    Index("payments_by_account_reference", "account_reference", "created_at"),
    Index("payments_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
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
    _required("kept_id", Uuid()),
    _required("caller", Text()),
    _required("request_id", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="caller_requests_of_payment"), nullable=False),
    _required("request", LargeBinary()),
    _required("request_fingerprint", LargeBinary()),
    _required("request_encoding", SmallInteger()),
    _required("request_key_id", Text()),
    _when("kept_at", nullable=False),
    PrimaryKeyConstraint("request_id", "caller", name="caller_requests_pk"),
    UniqueConstraint("kept_id", name="caller_requests_one_per_kept_id"),
    Index("caller_requests_by_payment", "payment_id"),
)

log = Table(
    "event_log",
    metadata,
    _required("singleton", Boolean(), "true"),
    _required("log_id", Uuid()),
    PrimaryKeyConstraint("singleton", name="event_log_pk"),
    CheckConstraint("singleton", name="event_log_has_one_row"),
)

events = Table(
    "payment_events",
    metadata,
    Column("position", BigInteger(), Identity(always=True), nullable=False),
    _required("tag", LargeBinary()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="events_of_payment"), nullable=False),
    _required("version", Integer()),
    _required("caller", Text()),
    _required("event_type", Text()),
    _required("fact_id", Text()),
    _required("fact_kind", Text()),
    Column("previous_state", Text()),
    _required("state", Text()),
    Column("status_reason", Text()),
    Column("provider_result_code", Text()),
    _required("booking_action", Text()),
    _required("outcome_certain", Boolean()),
    _when("retry_allowed_at"),
    _required("amount", Numeric(10, 2)),
    Column("mpesa_receipt_number", Text()),
    _required("paid_late", Boolean()),
    _when("completed_at"),
    _when("expires_at", nullable=False),
    _when("occurred_at", nullable=False),
    _required("chain_encoding", SmallInteger()),
    _required("chain_key_id", Text()),
    _required("previous_hash", LargeBinary()),
    _required("hash", LargeBinary()),
    PrimaryKeyConstraint("position", name="events_pk"),
    UniqueConstraint("payment_id", "version", name="events_one_per_version"),
    UniqueConstraint("payment_id", "fact_id", name="events_one_per_fact"),
)

inbox = Table(
    "callback_inbox",
    metadata,
    _required("callback_id", Uuid()),
    _required("kind", Text()),
    _required("reference", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="callbacks_of_payment")),
    _required("body", LargeBinary()),
    _required("body_hash", LargeBinary()),
    _required("source_address", Text()),
    _when("received_at", nullable=False),
    _when("stored_at", nullable=False),
    _required("status", Text()),
    _required("tries", Integer(), "0"),
    _when("next_try_at"),
    Column("last_error", Text()),
    PrimaryKeyConstraint("callback_id", name="callbacks_pk"),
    UniqueConstraint("reference", "body_hash", name="callbacks_one_per_body"),
    CheckConstraint("status IN ('APPLIED', 'PENDING', 'UNMATCHED', 'DEAD')", name="callbacks_status_known"),
    CheckConstraint("(status = 'PENDING') = (next_try_at IS NOT NULL)", name="callbacks_pending_has_next_try"),
    Index("callbacks_due", "next_try_at", postgresql_where=text("status = 'PENDING'")),
    Index("callbacks_by_payment", "payment_id"),
    Index("callbacks_unsettled", "status", "received_at", postgresql_where=text("status <> 'APPLIED'")),
)

replays = Table(
    "callback_replays",
    metadata,
    _required("replay_id", Uuid()),
    Column("callback_id", Uuid(), ForeignKey(inbox.c.callback_id, name="replays_of_callback"), nullable=False),
    _required("operator", Text()),
    _required("reason", Text()),
    _required("outcome", Text()),
    _when("replayed_at", nullable=False),
    PrimaryKeyConstraint("replay_id", name="replays_pk"),
    Index("replays_by_callback", "callback_id"),
)

exchanges = Table(
    "daraja_exchanges",
    metadata,
    _required("exchange_id", Uuid()),
    Column("payment_id", Uuid()),
    _required("operation", Text()),
    Column("http_status", Integer()),
    _required("classified_as", Text()),
    _required("request", LargeBinary()),
    _required("answer", LargeBinary()),
    _when("started_at", nullable=False),
    _required("duration_ms", Integer()),
    PrimaryKeyConstraint("exchange_id", name="exchanges_pk"),
    Index("exchanges_by_payment", "payment_id"),
)

access_tokens = Table(
    "daraja_access_token",
    metadata,
    _required("app", Text()),
    _required("generation", BigInteger(), "0"),
    Column("token", LargeBinary()),
    _when("fetched_at"),
    _when("refresh_at"),
    _when("expires_at"),
    Column("lease_id", Uuid()),
    _when("lease_expires_at"),
    PrimaryKeyConstraint("app", name="access_token_pk"),
)

request_budgets = Table(
    "request_budgets",
    metadata,
    _required("shortcode", Text()),
    _required("kind", Text()),
    _required("turns", Double()),
    _when("filled_at", nullable=False),
    _when("paused_until"),
    PrimaryKeyConstraint("shortcode", "kind", name="request_budgets_pk"),
    CheckConstraint("kind IN ('push', 'query')", name="request_budgets_kind_known"),
)

cases = Table(
    "cases",
    metadata,
    _required("case_id", Uuid()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="cases_of_payment")),
    _required("reference", Text()),
    _required("kind", Text()),
    _required("is_money", Boolean()),
    _required("fact_id", Text()),
    Column("mpesa_receipt_number", Text()),
    Column("amount", Numeric(10, 2)),
    _when("opened_at", nullable=False),
    _when("settled_at"),
    PrimaryKeyConstraint("case_id", name="cases_pk"),
    UniqueConstraint("reference", "fact_id", name="cases_one_per_fact"),
    Index("cases_open", "opened_at", postgresql_where=text("settled_at IS NULL")),
)

receipts = Table(
    "mpesa_receipts",
    metadata,
    _required("receipt", Text()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="receipts_of_payment"), nullable=False),
    Column("amount", Numeric(10, 2)),
    _required("counted", Boolean()),
    _when("seen_at", nullable=False),
    PrimaryKeyConstraint("receipt", name="receipts_pk"),
    Index("receipts_by_payment", "payment_id"),
)

pulls = Table(
    "daraja_pulls",
    metadata,
    _required("shortcode", Text()),
    _when("registered_at"),
    _when("window_start"),
    _when("window_end"),
    _required("page_offset", Integer(), "0"),
    # Of the release before: what has been read is in `pull_spans`.
    _when("pulled_upto"),
    _when("swept_at"),
    _when("next_pull_at", nullable=False),
    _required("failures", Integer(), "0"),
    Column("lease_id", Uuid()),
    _when("lease_expires_at"),
    _when("proved_at"),
    _when("window_began_at"),
    Column("window_flaw", Text()),
    Column("page_digest", Text()),
    Column("rows_told", Integer()),
    _required("slice_seconds", Integer(), "3600"),
    PrimaryKeyConstraint("shortcode", name="pulls_pk"),
    CheckConstraint("(window_start IS NULL) = (window_end IS NULL)", name="pulls_window_is_whole"),
)

pull_spans = Table(
    "daraja_pull_spans",
    metadata,
    _required("shortcode", Text()),
    _when("start_at", nullable=False),
    _when("end_at", nullable=False),
    _when("read_at", nullable=False),
    _required("reading", Text()),
    PrimaryKeyConstraint("shortcode", "start_at", "reading", name="pull_spans_pk"),
    CheckConstraint("start_at < end_at", name="pull_spans_forward"),
)

questions = Table(
    "daraja_questions",
    metadata,
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="questions_of_payment"), nullable=False),
    # Empty where the payment is asked for by the conversation it came of.
    _required("receipt", Text()),
    _required("tries", Integer()),
    _when("next_ask_at", nullable=False),
    PrimaryKeyConstraint("payment_id", "receipt", name="questions_pk"),
)

initiators = Table(
    "daraja_initiators",
    metadata,
    _required("initiator", Text()),
    Column("asked_reference", Text()),
    _when("asked_at"),
    _when("next_ask_at", nullable=False),
    Column("refused_code", Text()),
    PrimaryKeyConstraint("initiator", name="initiators_pk"),
    CheckConstraint("(asked_reference IS NULL) = (asked_at IS NULL)", name="initiators_question_is_whole"),
)
