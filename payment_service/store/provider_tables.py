"""The tables of what all processes share when they call Safaricom: token, budgets, the switch, how far lists are read.

They hold no payment. The migrations make them; a test holds the two together.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)

from payment_service.store.approval_tables import approvals
from payment_service.store.consumer_tables import consumer_cursors
from payment_service.store.key_tables import key_checks
from payment_service.store.privacy_tables import privacy_acts
from payment_service.store.receipt_tables import issued_receipts
from payment_service.store.refund_tables import refunds
from payment_service.store.risk_tables import risk_list
from payment_service.store.tables import metadata, payments, required, when

access_tokens = Table(
    "daraja_access_token",
    metadata,
    required("app", Text()),
    required("generation", BigInteger(), "0"),
    Column("token", LargeBinary()),
    when("fetched_at"),
    when("refresh_at"),
    when("expires_at"),
    Column("lease_id", Uuid()),
    when("lease_expires_at"),
    PrimaryKeyConstraint("app", name="access_token_pk"),
)

request_budgets = Table(
    "request_budgets",
    metadata,
    # Or the key of the Daraja app that queries are counted for; a key is longer than any shortcode.
    required("shortcode", Text()),
    required("kind", Text()),
    required("turns", Double()),
    when("filled_at", nullable=False),
    when("paused_until"),
    PrimaryKeyConstraint("shortcode", "kind", name="request_budgets_pk"),
    CheckConstraint("kind IN ('push', 'query', 'refund')", name="request_budgets_kind_known"),
)

pulls = Table(
    "daraja_pulls",
    metadata,
    required("shortcode", Text()),
    when("registered_at"),
    when("window_start"),
    when("window_end"),
    required("page_offset", Integer(), "0"),
    # Of the release before: what has been read is in `pull_spans`.
    when("pulled_upto"),
    when("swept_at"),
    when("next_pull_at", nullable=False),
    required("failures", Integer(), "0"),
    Column("lease_id", Uuid()),
    when("lease_expires_at"),
    when("proved_at"),
    when("window_began_at"),
    Column("window_flaw", Text()),
    Column("page_digest", Text()),
    Column("rows_told", Integer()),
    required("slice_seconds", Integer(), "3600"),
    PrimaryKeyConstraint("shortcode", name="pulls_pk"),
    CheckConstraint("(window_start IS NULL) = (window_end IS NULL)", name="pulls_window_is_whole"),
)

pull_spans = Table(
    "daraja_pull_spans",
    metadata,
    required("shortcode", Text()),
    when("start_at", nullable=False),
    when("end_at", nullable=False),
    when("read_at", nullable=False),
    required("reading", Text()),
    PrimaryKeyConstraint("shortcode", "start_at", "reading", name="pull_spans_pk"),
    CheckConstraint("start_at < end_at", name="pull_spans_forward"),
)

questions = Table(
    "daraja_questions",
    metadata,
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="questions_of_payment"), nullable=False),
    # Empty where the payment is asked for by the conversation it came of.
    required("receipt", Text()),
    required("tries", Integer()),
    when("next_ask_at", nullable=False),
    PrimaryKeyConstraint("payment_id", "receipt", name="questions_pk"),
)

initiators = Table(
    "daraja_initiators",
    metadata,
    required("initiator", Text()),
    Column("asked_reference", Text()),
    when("asked_at"),
    when("next_ask_at", nullable=False),
    Column("refused_code", Text()),
    PrimaryKeyConstraint("initiator", name="initiators_pk"),
    CheckConstraint("(asked_reference IS NULL) = (asked_at IS NULL)", name="initiators_question_is_whole"),
)

prompt_switch = Table(
    "prompt_switch",
    metadata,
    Column("position", BigInteger(), Identity(always=True), nullable=False),
    required("stopped", Boolean()),
    required("operator", Text()),
    required("reason", Text()),
    Column("turned_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("position", name="prompt_switch_pk"),
)

_ELSEWHERE = (approvals, consumer_cursors, refunds, risk_list, key_checks, privacy_acts, issued_receipts)
"""Their files have to be read for their tables to be known."""
whole_schema = metadata
"""All tables: those of `tables`, of refunds, of approvals, of consumers, of risk, of keys, of privacy and of issued
receipts, and these."""
