"""Runs the migrations on the connection that `migrate` or `check` hands over."""

from alembic import context

from payment_service.store.provider_tables import whole_schema

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=whole_schema, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
