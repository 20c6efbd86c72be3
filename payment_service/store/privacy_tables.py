"""The table of what was done about personal data. The migrations make it; a test holds the two together."""

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, PrimaryKeyConstraint, Table, Text, Uuid, text

from payment_service.store.tables import metadata, required

privacy_acts = Table(
    "privacy_acts",
    metadata,
    required("act_id", Uuid()),
    required("act", Text()),
    # Who has asked: the name of the certificate, and the name that the command says.
    required("certificate", Text()),
    required("operator", Text()),
    required("reason", Text()),
    required("payments", Integer()),
    Column("acted_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("act_id", name="privacy_acts_pk"),
    CheckConstraint("act IN ('EXPORT', 'ERASE')", name="privacy_acts_act_known"),
)
