"""The operators' commands that read what is stored: each connects, reads and shows. Nothing here can write."""

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import psycopg
from rich.console import Console

from payment_service.app import check_database
from payment_service.application.check_invariants import check_invariants
from payment_service.application.explain_payment import explain_payment
from payment_service.application.invariants import Instruments
from payment_service.config import InspectionSettings
from payment_service.domain.errors import PaymentNotFound
from payment_service.screens import show_explanation, show_tallies
from payment_service.security.keys import Keys, KeysUnusable, load_keys
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_reader, read_engine
from payment_service.store.together import Connection
from runtime.redaction import redact_text
from runtime.serving import StartRefused


class NotAllHolds(Exception):
    """Some invariant is violated; which one has been shown."""


async def check(settings: InspectionSettings, since: datetime | None, console: Console) -> None:
    """Check every invariant and show the findings; NotAllHolds if any is violated."""
    keys = _keys(settings)
    async with _reading(settings) as conn:
        tallies = await check_invariants(Instruments(Sealer(keys), keys), conn, since)
    show_tallies(console, tallies)
    if any(tally.violations for tally in tallies.values()):
        raise NotAllHolds


async def explain(settings: InspectionSettings, name: str, console: Console) -> None:
    """Show the whole story of one payment."""
    keys = _keys(settings)
    try:
        async with _reading(settings) as conn:
            explanation = await explain_payment(Sealer(keys), conn, _name(name))
    except PaymentNotFound:
        raise StartRefused(f"No payment has the id or reference {redact_text(name)!r}.") from None
    show_explanation(console, explanation)


@contextlib.asynccontextmanager
async def _reading(settings: InspectionSettings) -> AsyncIterator[Connection]:
    url = settings.database_url.get_secret_value()
    engine = read_engine(url)
    try:
        await check_database(engine)
    finally:
        await engine.dispose()
    try:
        async with await connect_reader(url) as conn:
            yield conn
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StartRefused(f"The database failed while it was being read ({reason}): run the command again.") from error


def _keys(settings: InspectionSettings) -> Keys:
    try:
        return load_keys(settings.keys_file)
    except KeysUnusable as error:
        raise StartRefused(str(error)) from None


def _name(text: str) -> UUID | str:
    try:
        return UUID(text)
    except ValueError:
        return text.strip().lower()
