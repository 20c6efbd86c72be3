"""The database before anything uses it: whether it can be used, and making or upgrading its schema."""

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.config import OwnerSettings
from payment_service.store.health import schema_revision
from payment_service.store.migrations import ensure_application_role, migrate, newest_revision
from runtime.serving import StartRefused


async def check_database(engine: AsyncEngine) -> None:
    """Raise StartRefused unless the database answers with the schema of this release."""
    try:
        async with engine.connect() as conn:
            revision = await schema_revision(conn)
    except Exception as error:
        raise StartRefused(f"The database of PAYMENTS_DATABASE_URL cannot be used: {first_line(error)}") from None
    # A newer schema is fine: migrations only expand it, so that releases can be rolled out and back.
    if revision is None or revision < newest_revision():
        raise StartRefused(
            f"The database's schema is at version {revision or 'none'}, this release needs {newest_revision()}: run"
            " payment-service migrate."
        )


def upgrade_database(settings: OwnerSettings) -> None:
    """Make or upgrade the schema, and the application's role if one is named. Raises StartRefused."""
    url = settings.database_url.get_secret_value()
    try:
        migrate(url)
        if settings.application_role:
            ensure_application_role(url, settings.application_role, settings.application_password.get_secret_value())
    except (psycopg.Error, DBAPIError) as error:
        raise StartRefused(
            f"The database of PAYMENTS_OWNER_DATABASE_URL cannot be used: {first_line(error)}. What was done is kept:"
            " payment-service migrate can be run again."
        ) from None


def first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
