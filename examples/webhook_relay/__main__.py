"""The command line of the relay: `run`, and the dead letter list."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx

from examples.webhook_relay.outbox import Outbox
from examples.webhook_relay.relay import CONSUMER, Relay
from examples.webhook_relay.webhook import Receiver
from payment_client import PaymentsClient, PaymentsError, TlsFiles


def main() -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        outbox = Outbox(arguments.data_file)
    except sqlite3.OperationalError as error:
        print(f"{arguments.data_file}: {error}. Another relay may have it open: end that one first.", file=sys.stderr)
        return 1
    with closing(outbox):
        return _do(arguments, outbox)


def _do(arguments: argparse.Namespace, outbox: Outbox) -> int:
    if arguments.command == "dead":
        for line in outbox.given_up():
            print(line.event_id, line.booking_id, f"{line.tries} tries", line.last_error, sep="  ")
        return 0
    if arguments.command == "again":
        print(f"{outbox.offer_again(arguments.event_id)} events are posted again.")
        return 0
    try:
        asyncio.run(_run(arguments, outbox))
    except* (PaymentsError, ValueError) as refused:
        # Whatever passes by itself is waited for. What ends the relay is a refusal: a cursor of another database, a
        # caller that may not read, or a setting that cannot be used.
        print(*refused.exceptions, sep="\n", file=sys.stderr)
    return 1


async def _run(arguments: argparse.Namespace, outbox: Outbox) -> None:
    named = (arguments.authority, arguments.certificate, arguments.key)
    tls = TlsFiles(*named) if all(named) else None
    secret = arguments.secret_file.read_text(encoding="ascii").strip()
    async with httpx.AsyncClient() as http, PaymentsClient(arguments.service, tls=tls) as client:
        await Relay(client, outbox, Receiver(arguments.url, secret, http), consumer=arguments.consumer).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="webhook_relay", description=__doc__)
    parser.add_argument("--data-file", type=Path, required=True, help="the SQLite file that it keeps all in")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="read events and post them, for ever")
    run.add_argument("--service", required=True, help="HOST:PORT of the payment service")
    run.add_argument("--authority", type=Path, help="PEM file: who has signed the service's certificate")
    run.add_argument("--certificate", type=Path, help="PEM file: the relay's own certificate")
    run.add_argument("--key", type=Path, help="PEM file: the key of that certificate")
    run.add_argument("--url", required=True, help="where to post, https")
    run.add_argument("--secret-file", type=Path, required=True, help="a file with the secret, whsec_…")
    run.add_argument("--consumer", default=CONSUMER, metavar="NAME", help="as the service's operators see it")
    commands.add_parser("dead", help="list what was given up")
    again = commands.add_parser("again", help="post events again that were given up; end the relay first")
    again.add_argument("event_id", nargs="+")
    return parser


if __name__ == "__main__":
    sys.exit(main())
