"""What is looked at beside the system: the example services, if they can run, and the developer's window.

The examples stand in the repository and not in the wheel, so their processes look for them in the clone. Each is a
caller with a certificate of its own, and keeps what it knows in a place of its own: the booking service in a database
beside that of the payment service, the notification service in a file of SQLite.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from development.certificates import AUTHORITY, BOOKING, NOTIFICATION, Certificates
from development.parts import House, Part, start_part, write_secret
from development.postgres import HOST, EmbeddedServer, create_database

BOOKING_SERVICE, NOTIFICATION_SERVICE, WINDOW = BESIDE = ("booking-service", "notification-service", "window")
DATABASE = "booking"

CLONE = Path(__file__).parents[1]


class ExampleServices(NamedTuple):
    """Where they are reached, or why they do not run; both are None where nobody asked for them."""

    booking_url: str | None = None
    messages: Path | None = None
    """What the notification service has sent."""
    notice: str | None = None


async def start_examples(
    house: House,
    server: EmbeddedServer | None,
    service: str,
    certificates: Certificates | None,
    booking_port: int,
    parts: list[Part],
    *,
    simulated: bool,
) -> ExampleServices:
    """Start both, as callers of the payment service at this address, whose Daraja is simulated or not."""
    if (why_not := _why_not(server, simulated)) is not None or server is None:
        return ExampleServices(notice=f"The example services are not started: {why_not}.")
    with contextlib.suppress(psycopg.errors.DuplicateDatabase):
        await create_database(server, DATABASE)
    database = write_secret(house.data_dir / "booking-database-url", server.dsn(DATABASE))
    words = ["examples.booking_service", f"--payments={service}", f"--listen={HOST}:{booking_port}"]
    words += [f"--database-url-file={database}", *_shown(certificates, BOOKING)]
    # As the simulator's phone names it.
    words += ["--business=PAYBILL 174379"]
    # Neither the folder that `dev` was called in nor the wheel has them.
    where = {"PYTHONPATH": str(CLONE)}
    parts.append(await start_part(house, BOOKING_SERVICE, words, where))
    booking_url = f"http://{parts[-1].ready['address']}"
    messages = house.data_dir / "notifications"
    words = ["examples.notification_service", f"--payments={service}", f"--folder={messages}"]
    words += _shown(certificates, NOTIFICATION)
    parts.append(await start_part(house, NOTIFICATION_SERVICE, words, where))
    return ExampleServices(booking_url, messages)


async def start_window(
    house: House,
    service: str,
    certificates: Certificates | None,
    simulator_url: str | None,
    port: int,
    parts: list[Part],
) -> str:
    """Start the page that shows events and requests as they come; its URL."""
    words = ["development.window", f"--listen={HOST}:{port}", f"--payments={service}"]
    words += [] if certificates is None else [f"--certificates={certificates.folder}"]
    words += [] if simulator_url is None else [f"--simulator={simulator_url}"]
    parts.append(await start_part(house, WINDOW, words, {}))
    return f"http://{parts[-1].ready['address']}"


def _why_not(server: EmbeddedServer | None, simulated: bool) -> str | None:
    if not simulated:
        return "a Daraja other than the simulator is used, and a number typed on the booking page could be a real phone"
    if not all(
        (CLONE / "examples" / name / "__main__.py").exists() for name in ("booking_service", "notification_service")
    ):
        return "they stand in the project's repository, and this is an installation without it"
    if importlib.util.find_spec("payment_client") is None:
        return "they need the client, which `pip install ./payment_client` installs"
    if server is None:
        return "the booking service needs a database of its own, and in a PostgreSQL of yours none is made"
    return None


def _shown(certificates: Certificates | None, caller: str) -> Sequence[str]:
    if certificates is None:
        return []
    files = (certificates.certificate(AUTHORITY), certificates.certificate(caller), certificates.key(caller))
    return ["--tls", *map(str, files)]
