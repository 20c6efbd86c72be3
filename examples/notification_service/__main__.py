"""`python -m examples.notification_service`: writes down what passengers are to hear, and sends it.

With threads, over the client for them: as a shop would that has no asyncio. Its database is one SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import threading
from pathlib import Path

from payment_client.cursors.sqlalchemy import SqlAlchemyCursors
from sqlalchemy import create_engine

from examples.notification_service.mail_sink import serve_mail
from examples.notification_service.messages import metadata, take_event
from examples.notification_service.sending import Mails, SmsFile, keep_sending
from payment_client import SyncPaymentsClient, TlsFiles

CONSUMER = "notifications"

log = logging.getLogger("notification_service")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    arguments = _arguments()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.smtp is None:
        host, port = _start_sink(folder / "mails")
    else:
        host, _, port_text = arguments.smtp.rpartition(":")
        port = int(port_text)
    engine = create_engine(f"sqlite:///{folder / 'notifications.db'}", connect_args={"timeout": 30})
    cursors = SqlAlchemyCursors(engine, CONSUMER, metadata)
    metadata.create_all(engine)
    client = SyncPaymentsClient(arguments.payments, tls=TlsFiles(*arguments.tls) if arguments.tls else None)
    closed = threading.Event()
    ways = (SmsFile(folder / "sms.txt"), Mails(host, port))
    sender = threading.Thread(target=keep_sending, args=(engine, *ways, closed), daemon=True)
    sender.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: client.close())
    log.info("messages are in %s, mails go to %s:%s", folder, host, port)
    if arguments.ready_file is not None:
        _write_whole(arguments.ready_file, {"pid": os.getpid(), "address": f"{host}:{port}"})
    client.consume(cursors, take_event, acknowledge_as=CONSUMER)
    closed.set()
    sender.join()


def _write_whole(path: Path, content: dict[str, object]) -> None:
    """So that no reader sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)


def _start_sink(folder: Path) -> tuple[str, int]:
    """A mail server of our own, in a thread, where no other is named."""
    started: list[tuple[str, int]] = []
    ready = threading.Event()

    async def serve() -> None:
        server = await serve_mail(folder, "127.0.0.1", 0)
        started.append(server.sockets[0].getsockname()[:2])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return started[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.notification_service", description=__doc__)
    parser.add_argument("--payments", default="127.0.0.1:50051", metavar="HOST:PORT", help="the payment service")
    parser.add_argument(
        "--tls", nargs=3, type=Path, metavar=("AUTHORITY", "CERTIFICATE", "KEY"), help="PEM files; else plaintext"
    )
    parser.add_argument("--folder", type=Path, required=True, help="its database, the SMS lines, the mails of its sink")
    parser.add_argument("--smtp", metavar="HOST:PORT", help="a mail server; without it, one of its own for development")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written as JSON once it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
