"""The switch that stops all new prompts.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE prompt_switch (
    position BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    stopped BOOLEAN NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    turned_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT prompt_switch_pk PRIMARY KEY (position)
);
GRANT SELECT, INSERT ON prompt_switch TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLE)
