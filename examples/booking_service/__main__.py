"""`python -m examples.booking_service`: the page, what asks and looks, the end of holds, the consumer of events."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from aiohttp import web
from payment_client.cursors.sqlalchemy import AsyncSqlAlchemyCursors
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from examples.booking_service.asking import keep_asking
from examples.booking_service.bookings import end_holds, take_event
from examples.booking_service.page import PAYMENTS, application
from examples.booking_service.tables import metadata, seats, trips
from examples.booking_service.vanished import keep_looking
from payment_client import PaymentsClient, TlsFiles

CONSUMER = "bookings"
END_HOLDS_SECONDS = 1.0
SEATS = 40
RESYNCHRONISE = timedelta(days=2)
"""After the payment service's database was restored: its payments of so long are taken as they stand."""

log = logging.getLogger("booking_service")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    arguments = _arguments()
    database_url = arguments.database_url_file.read_text(encoding="utf-8").strip()
    engine = create_async_engine("postgresql+psycopg://" + database_url.split("://", 1)[1], pool_pre_ping=True)
    tls = TlsFiles(*arguments.tls) if arguments.tls else None
    pages = application(engine, timedelta(seconds=arguments.hold_seconds), arguments.business)
    asyncio.run(_serve(engine, arguments.payments, tls, arguments.listen, pages, arguments.ready_file))


async def _serve(
    engine: AsyncEngine,
    payments: str,
    tls: TlsFiles | None,
    listen: str,
    pages: web.Application,
    ready_file: Path | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cursors = AsyncSqlAlchemyCursors(engine, CONSUMER, metadata)
    await _make_tables(engine)
    async with PaymentsClient(payments, tls=tls) as client:
        pages[PAYMENTS] = client
        runner = web.AppRunner(pages)
        await runner.setup()
        host, _, port = listen.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        address = f"{host}:{runner.addresses[0][1]}"
        log.info("the page is at http://%s", address)
        if ready_file is not None:
            _write_whole(ready_file, {"pid": os.getpid(), "address": address})
        # The five parts share nothing but the tables: each may end at any line, and goes on from there.
        work: list[asyncio.Task[None]] = [
            asyncio.create_task(
                client.consume(cursors, take_event, resynchronise=RESYNCHRONISE, acknowledge_as=CONSUMER)
            ),
            asyncio.create_task(keep_asking(engine, client)),
            asyncio.create_task(_keep_ending_holds(engine)),
            asyncio.create_task(keep_looking(engine, client)),
        ]
        work.append(asyncio.create_task(_until(stop)))
        ended, others = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await runner.cleanup()
    await engine.dispose()
    for task in ended:
        await task


def _write_whole(path: Path, content: dict[str, object]) -> None:
    """So that no reader sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _keep_ending_holds(engine: AsyncEngine) -> NoReturn:
    while True:
        try:
            async with engine.begin() as conn:
                await end_holds(conn, datetime.now(UTC))
        except Exception as error:
            # The database was away, say: the holds are over all the same, and the next look finds them.
            log.warning("ending holds failed, and goes on", exc_info=error)
        await asyncio.sleep(END_HOLDS_SECONDS)


async def _make_tables(engine: AsyncEngine) -> None:
    """Tables, and a trip to sell; your own migrations do this."""
    async with engine.begin() as conn:
        await conn.run_sync(metadata.create_all)
        if not await conn.scalar(select(func.count()).select_from(trips)):
            await conn.execute(insert(trips).values(trip_id="NBO-MSA-1", route="Nairobi to Mombasa", price=1_500))
            numbered = [{"trip_id": "NBO-MSA-1", "seat": f"{number:02}"} for number in range(1, SEATS + 1)]
            await conn.execute(insert(seats), numbered)


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.booking_service", description=__doc__)
    parser.add_argument("--payments", default="127.0.0.1:50051", metavar="HOST:PORT", help="the payment service")
    parser.add_argument(
        "--tls", nargs=3, type=Path, metavar=("AUTHORITY", "CERTIFICATE", "KEY"), help="PEM files; else plaintext"
    )
    parser.add_argument("--database-url-file", type=Path, required=True, help="a file with postgresql://…")
    parser.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="where the page is")
    parser.add_argument("--hold-seconds", type=float, default=600.0, help="for how long a seat is held")
    parser.add_argument("--business", default="", metavar="NAME", help="your name in the prompt, as M-Pesa shows it")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written as JSON once the page is served")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
