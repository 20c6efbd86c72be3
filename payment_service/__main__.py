"""Command line of the payment service.

What only one command needs is imported where that command begins, here and in `commands`: all of it together takes two
seconds of processor time, and an operator who asks for one payment would wait for the server and the migrations too.
"""

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console

from payment_service.commands.approvals import approvals
from payment_service.commands.audit import audit
from payment_service.commands.casework import cases, payments, prompts
from payment_service.commands.consumers import consumers
from payment_service.commands.keys import keys
from payment_service.commands.privacy import privacy
from payment_service.commands.refunds import refunds
from payment_service.commands.risk import risk
from payment_service.config import InspectionSettings, OwnerSettings, PaymentSettings, TimedSettings
from payment_service.security.keys import create_keys as make_keys
from runtime.core_dumps import forbid_core_dumps
from runtime.development_values import MARK
from runtime.importing import importing
from runtime.key_rings import create_key_ring
from runtime.logs import configure_logs
from runtime.serving import StartRefused, ending_on_refusal, refuse, run
from runtime.settings import render_settings

app = typer.Typer(name="payment-service", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
callbacks = typer.Typer(no_args_is_help=True, help="Look after callbacks that could not be applied.")
app.add_typer(callbacks, name="callbacks")
app.add_typer(cases, name="cases")
app.add_typer(payments, name="payments")
app.add_typer(prompts, name="prompts")
app.add_typer(refunds, name="refunds")
app.add_typer(approvals, name="approvals")
app.add_typer(risk, name="risk")
app.add_typer(consumers, name="consumers")
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")
app.add_typer(privacy, name="privacy")

Inspection = TypeVar("Inspection", bound=InspectionSettings)


class CallbackStatus(StrEnum):
    """What can be listed."""

    PENDING = "pending"
    UNMATCHED = "unmatched"
    UNREAD = "unread"
    DEAD = "dead"


@app.callback()
def payment_service() -> None:
    """Collect payments by M-Pesa STK push, and know the truth about the money."""
    forbid_core_dumps()


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 picks a free one.")] = None,
    plaintext: Annotated[
        bool | None, typer.Option("--plaintext", help="Take calls without TLS, from this machine's loopback only.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written as JSON once the service serves.")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Show the settings, check, and leave.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Settings are PAYMENTS_* in the environment; flags win."""
    try:
        settings = PaymentSettings.load(grpc_address=listen, plaintext=plaintext)
    except StartRefused as refusal:
        refuse(refusal)
    if check_config:
        with importing():
            from payment_service.commands.check_config import check_files

        sys.stdout.write(render_settings(settings))
        with ending_on_refusal():
            sys.stdout.writelines(f"{sentence}\n" for sentence in check_files(settings))
        return
    with importing():
        from payment_service.app import serve as serve_payments
        from runtime.exporting import exporting

    configure_logs("payment-service", settings.log_level)
    with ending_on_refusal(), exporting("payment-service", settings.metrics_address, "PAYMENTS_METRICS_ADDRESS"):
        run(serve_payments(settings, ready_file))


@app.command()
def migrate() -> None:
    """Make or upgrade the schema, as the owner: PAYMENTS_OWNER_DATABASE_URL, and the application's role if named."""
    with importing():
        from payment_service.database import upgrade_database

    with ending_on_refusal():
        done = upgrade_database(OwnerSettings.load())
    sys.stdout.write(f"{done}\n")


@app.command()
def create_keys(
    keys_file: Annotated[Path, typer.Argument(help="The service's own keys: encryption, indexes, the log's chain.")],
    callback_keys_file: Annotated[
        Path, typer.Argument(help="The keys for callback tokens; the gateway needs them too.")
    ],
    for_development: Annotated[
        bool, typer.Option("--for-development", help="Mark them, so that no start against production takes them.")
    ] = False,
) -> None:
    """Make the keys of a new installation, for the owner only. Files that exist are left alone."""
    with ending_on_refusal():
        mark = MARK if for_development else None
        make_keys(keys_file, mark)
        create_key_ring(callback_keys_file, mark)
    sys.stdout.write(f"Keys are in {keys_file} and {callback_keys_file}.\n")


@app.command()
def check(
    since: Annotated[
        datetime | None, typer.Option(help="Only what was made from this time on, in UTC; without it, everything.")
    ] = None,
) -> None:
    """Check that everything stored keeps the service's promises; exit code 1 if anything does not.

    Reads only, beside the running service, with its PAYMENTS_DATABASE_URL and PAYMENTS_KEYS_FILE. One line for each
    invariant: what was checked, how much of it, and which payments break it.
    """
    with importing():
        from payment_service.commands.inspect import NotAllHolds
        from payment_service.commands.inspect import check as check_payments

    settings = _inspection_settings()
    try:
        run(check_payments(settings, since and since.replace(tzinfo=UTC), Console()))
    except NotAllHolds:
        raise typer.Exit(1) from None


@app.command()
def explain(
    payment: Annotated[str, typer.Argument(help="A payment's id, or its reference.")],
) -> None:
    """Tell the whole story of a payment: every change, exchange, callback, receipt and case, and who caused it.

    Reads only, with the service's PAYMENTS_DATABASE_URL and PAYMENTS_KEYS_FILE. The payer's number is masked.
    """
    with importing():
        from payment_service.commands.inspect import explain as explain_payment

    run(explain_payment(_inspection_settings(), payment, Console()))


@callbacks.command("list")
def list_callbacks(
    status: Annotated[
        list[CallbackStatus] | None, typer.Option(help="Only these; without it, all that are not applied.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List the callbacks that are not applied (pending, unmatched, unread, dead), the oldest first. Reads only."""
    with importing():
        from payment_service.commands.inspect import list_callbacks as list_unsettled

    statuses = [one.value.upper() for one in status or CallbackStatus]
    run(list_unsettled(_inspection_settings(), statuses, limit, Console()))


@callbacks.command("show")
def show_callback(callback: Annotated[UUID, typer.Argument(help="A callback's id.")]) -> None:
    """Show one callback as it came, with the payer's number masked, and what became of it. Reads only."""
    with importing():
        from payment_service.commands.inspect import show_callback as show_one

    run(show_one(_inspection_settings(), callback, Console()))


@callbacks.command("replay")
def replay_callback(
    callback: Annotated[UUID, typer.Argument(help="A callback's id.")],
    reason: Annotated[str, typer.Option(help="Why; kept with your name.")],
) -> None:
    """Apply one callback again, as if it came now. Safe to repeat: what is known already changes nothing.

    Takes the settings of the service: PAYMENTS_DATABASE_URL, PAYMENTS_KEYS_FILE, and its times.
    """
    with importing():
        from payment_service.commands.callbacks import replay as replay_one

    # What came of it is said in one sentence, and kept.
    run(replay_one(_settings(TimedSettings, "CRITICAL"), callback, reason, Console()))


@app.command()
def dev(
    data_dir: Annotated[Path, typer.Option(help="Where the database, keys and logs are kept.")] = Path(".dev"),
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC server.")] = 50051,
    gateway_port: Annotated[int, typer.Option(help="Port of the callback gateway.")] = 8080,
    simulator_port: Annotated[int, typer.Option(help="Port of the Daraja simulator.")] = 8070,
    metrics_port: Annotated[int, typer.Option(help="Port of the page for Prometheus.")] = 9464,
    booking_port: Annotated[int, typer.Option(help="Port of the example booking service's page.")] = 8090,
    window_port: Annotated[int, typer.Option(help="Port of the developer's window.")] = 8091,
    desk_port: Annotated[int, typer.Option(help="Port of the case desk.")] = 8100,
    no_examples: Annotated[
        bool,
        typer.Option("--no-examples", help="Without the example services, the developer's window and the case desk."),
    ] = False,
    database_url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL of your own, as its owner; without a password."),
    ] = None,
    database_url_file: Annotated[
        Path | None, typer.Option(help="A file with that URL and its password, for you alone (mode 600).")
    ] = None,
    daraja_url: Annotated[
        str | None, typer.Option(help="A Daraja instead of the simulator; no examples run then.")
    ] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Without TLS; else certificates are made in the data folder.")
    ] = False,
    utc_timestamps: Annotated[
        bool, typer.Option("--utc-timestamps", help="The simulator takes a Timestamp in UTC as well; Daraja does not.")
    ] = False,
    ready_file: Annotated[Path | None, typer.Option(help="Written as JSON once everything serves.")] = None,
) -> None:
    """Run every part on this machine: PostgreSQL, the simulator, the gateway, the service and the example services."""
    from development.dev import dev as run_development

    run_development(
        data_dir,
        grpc_port,
        gateway_port,
        simulator_port,
        metrics_port,
        None if no_examples else booking_port,
        None if no_examples else window_port,
        None if no_examples else desk_port,
        database_url,
        database_url_file,
        daraja_url,
        plaintext,
        ready_file,
        utc_timestamps=utc_timestamps,
    )


@app.command()
def demo() -> None:
    """Take payments through every ending, show them, and check them against the simulator's ledger."""
    from development.demo import demo as run_demo

    run_demo()


def _inspection_settings() -> InspectionSettings:
    # What goes wrong while reading is logged; what is read is the command's own output.
    return _settings(InspectionSettings, "WARNING")


def _settings(kind: type[Inspection], log_level: str) -> Inspection:
    try:
        settings = kind.load()
    except StartRefused as refusal:
        refuse(refusal)
    configure_logs("payment-service", log_level)
    return settings


if __name__ == "__main__":
    app()
