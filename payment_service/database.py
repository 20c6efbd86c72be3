"""The database before anything uses it: whether it can be used, and making or upgrading its schema."""

from collections.abc import Collection, Mapping

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.recording.request_encoding import fingerprint_holds
from payment_service.config import OwnerSettings
from payment_service.security.keys import Keys
from payment_service.security.sealing import PHONE_NUMBER, REQUEST, SealBroken, Sealer
from payment_service.store.callers import others_at_work
from payment_service.store.event_log import event_holds
from payment_service.store.health import may_alter_events, schema_revision, server_version
from payment_service.store.key_checks import KeyName, KeyProofs, add_checks, known_checks, newest_payment
from payment_service.store.migrations import (
    Schema,
    ensure_application_role,
    ensure_reader_role,
    migrate,
    newest_revision,
    schema_found,
)
from payment_service.store.payments import PHONE_INDEX
from runtime.key_rings import KeyRing
from runtime.serving import StartRefused

OLDEST_POSTGRES = 16


async def check_database(engine: AsyncEngine) -> None:
    """Raise StartRefused unless the database answers with the schema of this release."""
    try:
        async with engine.connect() as conn:
            version = await server_version(conn)
            revision = await schema_revision(conn)
    except Exception as error:
        raise StartRefused(f"The database of PAYMENTS_DATABASE_URL cannot be used: {first_line(error)}") from None
    refuse_old_postgres(version)
    # A newer schema is fine: migrations only expand it, so that releases can be rolled out and back.
    if revision is None or revision < newest_revision():
        raise StartRefused(
            f"The database's schema is at version {revision or 'none'}, this release needs {newest_revision()}: run"
            " payment-service migrate."
        )


async def check_application_role(engine: AsyncEngine) -> None:
    """Raise StartRefused for a role that could alter the log: only a role that cannot makes it evidence."""
    async with engine.connect() as conn:
        if await may_alter_events(conn):
            raise StartRefused(
                "PAYMENTS_DATABASE_URL names a role that may alter the log of payments, such as the database's owner."
                " Name the application's role: payment-service migrate makes it from PAYMENTS_OWNER_APPLICATION_ROLE."
            )


async def check_callers(engine: AsyncEngine, listed: Collection[str]) -> None:
    """Raise StartRefused where a caller that is not on the list has payments that may still move, or are new.

    Request ids and the rule of one prompt for a booking hold for each caller. So a booking service that comes back
    under another name, and repeats what it asked for before an upgrade, would have a passenger pay twice.
    """
    async with engine.connect() as conn:
        others = await others_at_work(conn, listed)
    if others:
        raise StartRefused(
            f"The list in PAYMENTS_CALLERS_FILE lacks {', '.join(others)}, whose payments may still move or are less"
            " than a day old. List the service that asked for them under that name, with the SPIFFE URI in its"
            f' certificate: {{"name": "{others[0]}", "spiffe_id": "spiffe://example.org/booking", "party": "BOOKING"}}.'
            " To keep it out, give that name a SPIFFE URI that no certificate has."
        )


async def check_keys(engine: AsyncEngine, keys: Keys) -> None:
    """Raise StartRefused for keys that are not those the database was filled with.

    With others nothing stored could be read, and a request that is repeated would not be known again.
    """
    async with engine.connect() as conn:
        known, newest = await known_checks(conn), await newest_payment(conn)
    _refuse_other_keys(known, keys.checks())
    if newest is None:
        return
    if known:
        _refuse_other_index(newest, keys)
        return
    # Filled before check values were kept: what is stored proves the keys.
    if (purpose := _disproved(newest, keys)) is not None:
        raise StartRefused(
            f"The {purpose} key in PAYMENTS_KEYS_FILE is not the one that this database's newest payment was made with."
            f" {_OTHER_KEYS}"
        )


async def indexed_with(engine: AsyncEngine, keys: Keys, key_id: str) -> bool:
    """Whether payments are found by this index key; not where there are none yet."""
    async with engine.connect() as conn:
        newest = await newest_payment(conn)
    with_this = Keys(**(keys.rings | {"index": KeyRing(key_id, keys.index.keys)}))
    return newest is not None and _index_holds(newest, with_this)


async def remember_keys(engine: AsyncEngine, keys: Keys) -> None:
    """Keep check values of keys that are new here, once `check_keys` has passed; StartRefused if another was faster."""
    async with engine.begin() as conn:
        if keys.checks().items() - (await known_checks(conn)).items():
            await add_checks(conn, keys.checks())
    async with engine.connect() as conn:
        _refuse_other_keys(await known_checks(conn), keys.checks())


def _refuse_other_index(newest: KeyProofs, keys: Keys) -> None:
    """Payments are found by the current index key alone, so one that has not been put in place would find nothing."""
    try:
        holds = _index_holds(newest, keys)
    except SealBroken:
        return
    if not holds:
        raise StartRefused(
            f"The payments in the database are not found by the current index key {keys.index.current_id!r} of"
            " PAYMENTS_KEYS_FILE. If keys reindex was broken off, run it again; else put the newest copy of the file in"
            " its place."
        )


def _index_holds(newest: KeyProofs, keys: Keys) -> bool:
    sealer = Sealer(keys)
    number = sealer.open(PHONE_NUMBER, newest.payment_id.bytes, newest.phone_number)
    return sealer.index(PHONE_INDEX, number) == newest.phone_index


def _disproved(newest: KeyProofs, keys: Keys) -> str | None:
    """The first purpose whose key in the file did not make what is stored of this payment; None where all did."""
    sealer, row_id = Sealer(keys), newest.payment_id.bytes
    try:
        number = sealer.open(PHONE_NUMBER, row_id, newest.phone_number)
        request = sealer.open(REQUEST, row_id, newest.request)
    except SealBroken:
        return "sealing"
    if sealer.index(PHONE_INDEX, number) != newest.phone_index:
        return "index"
    version, key_id, claimed = newest.request_encoding, newest.request_key_id, newest.request_fingerprint
    if not fingerprint_holds(keys.fingerprint, key_id, version, request, claimed):
        return "fingerprint"
    return None if event_holds(newest.first_event, keys.chain) else "chain"


_OTHER_KEYS = (
    "Name the key file of this installation, or restore it from a backup; if the file is right, PAYMENTS_DATABASE_URL"
    " names another installation's database."
)


def _refuse_other_keys(known: Mapping[KeyName, bytes], held: Mapping[KeyName, bytes]) -> None:
    for (purpose, key_id), check in known.items():
        if held.get((purpose, key_id), check) != check:
            raise StartRefused(
                f"The {purpose} key {key_id!r} in PAYMENTS_KEYS_FILE is not the one that this database was used with."
                f" {_OTHER_KEYS}"
            )
    for purpose in dict.fromkeys(purpose for purpose, _ in known):
        if not any(name in known for name in held if name[0] == purpose):
            raise StartRefused(
                f"PAYMENTS_KEYS_FILE has none of the {purpose} keys that this database was used with. {_OTHER_KEYS}"
            )


def refuse_old_postgres(version: int) -> None:
    """Raise StartRefused for a server that is too old; `version` as PostgreSQL counts it."""
    if version < OLDEST_POSTGRES * 10_000:
        raise StartRefused(
            f"This PostgreSQL is version {version // 10_000}, and {OLDEST_POSTGRES} or newer is needed: upgrade the"
            " server, or name another one."
        )


def upgrade_database(settings: OwnerSettings) -> str:
    """Make or upgrade the schema, and the application's role if one is named; says what was done.

    Raises StartRefused.
    """
    url, newest = settings.database_url.get_secret_value(), newest_revision()
    try:
        before = schema_found(url)
        refuse_old_postgres(before.server_version)
        _refuse_newer_schema(before, newest)
        migrate(url)
        if settings.application_role:
            ensure_application_role(url, settings.application_role, settings.application_password.get_secret_value())
        if settings.reader_role:
            ensure_reader_role(url, settings.reader_role, settings.reader_password.get_secret_value())
    except (psycopg.Error, DBAPIError) as error:
        raise StartRefused(
            f"The database of PAYMENTS_OWNER_DATABASE_URL cannot be used: {first_line(error)}. What was done is kept:"
            " payment-service migrate can be run again."
        ) from None
    if before.revision is None:
        return f"The schema was made, at version {newest}."
    if before.revision != newest:
        return f"The schema was upgraded from version {before.revision} to {newest}."
    return f"The schema is up to date, at version {newest}."


def _refuse_newer_schema(found: Schema, newest: str) -> None:
    if found.revision is not None and found.revision > newest:
        raise StartRefused(
            f"The schema is at version {found.revision}, which is newer than this release's ({newest}): nothing was"
            " done, and nothing has to be. This release works with it."
        )


def first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
