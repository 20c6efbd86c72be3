"""The tables of keys: what is known of each, and which process holds which. Never a key itself.

The migrations make them; a test holds the two together.
"""

from sqlalchemy import PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import LargeBinary

from payment_service.store.tables import metadata, required, when

key_checks = Table(
    "key_checks",
    metadata,
    required("purpose", Text()),
    required("key_id", Text()),
    required("check_value", LargeBinary()),
    PrimaryKeyConstraint("purpose", "key_id", name="key_checks_pk"),
)

key_holders = Table(
    "key_holders",
    metadata,
    # The program, its machine and its process, in words for an operator.
    required("holder", Text()),
    # By purpose, the id of the current key ("" where it makes nothing), and a check value of each by its id, in hex.
    required("keys", JSONB()),
    when("seen_at", nullable=False),
    PrimaryKeyConstraint("holder", name="key_holders_pk"),
)

key_uses = Table(
    "key_uses",
    metadata,
    required("purpose", Text()),
    required("key_id", Text()),
    when("last_used_at", nullable=False),
    when("retired_at"),
    PrimaryKeyConstraint("purpose", "key_id", name="key_uses_pk"),
)
