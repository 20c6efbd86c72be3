"""`payment-service dev`: the whole system on this machine, until it is told to stop.

Decides what a developer is told: where everything is, and a line that asks for a payment; and that a part that ends is
started again, so that its crash or restart can be rehearsed. What runs, and in which order, is decided in `system`.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

import typer

from development.certificates import AUTHORITY, BOOKING
from development.foreground import run_in_foreground
from development.parts import PartFailed, Start, start_watched
from development.system import SERVICE, Plan, System, ended_part, running_system, start_again
from runtime.private_files import why_not_private
from runtime.serving import StartRefused, ending_on_refusal, write_ready_file

RESTARTS_MAX = 3
"""Of all parts together, within `RESTARTS_SECONDS`: what ends again and again is broken, and its log says how."""
RESTARTS_SECONDS = 60.0

ISSUER: Mapping[str, str] = {
    "PAYMENTS_RECEIPT_ISSUER_NAME": "Development Coaches (no such company)",
    "PAYMENTS_RECEIPT_ISSUER_ADDRESS": "P.O. Box 0-00000, Nairobi",
    "PAYMENTS_RECEIPT_ISSUER_KRA_PIN": "P000000000D",
    "PAYMENTS_RECEIPT_ISSUER_CONTACT": "passengers@coaches.example",
}
"""A company that does not exist issues the receipts of development."""


def dev(
    data_dir: Path,
    grpc_port: int = 50051,
    gateway_port: int = 8080,
    simulator_port: int = 8070,
    metrics_port: int = 9464,
    booking_port: int | None = 8090,
    window_port: int | None = 8091,
    desk_port: int | None = 8100,
    database_url: str | None = None,
    database_url_file: Path | None = None,
    daraja_url: str | None = None,
    plaintext: bool = False,
    ready_file: Path | None = None,
    *,
    utc_timestamps: bool = False,
    start: Start = start_watched,
) -> None:
    """Run everything until SIGTERM or SIGINT; what stops it from starting is one sentence and exit code 1."""
    with ending_on_refusal():
        owner_url = _owner_url(database_url, database_url_file)
    plan = Plan(
        data_dir=data_dir,
        grpc_port=grpc_port,
        gateway_port=gateway_port,
        simulator_port=simulator_port,
        metrics_port=metrics_port,
        booking_port=booking_port,
        window_port=window_port,
        desk_port=desk_port,
        database_url=owner_url,
        daraja_url=daraja_url,
        plaintext=plaintext,
        issuer=ISSUER,
        simulator_options=("--utc-timestamps",) if utc_timestamps else (),
        start=start,
    )
    run_in_foreground(_run(plan, ready_file))


async def _run(plan: Plan, ready_file: Path | None) -> None:
    if ready_file is not None:
        # What an earlier run wrote there is not true any more.
        ready_file.unlink(missing_ok=True)
    typer.echo(f"Starting everything; data, keys and logs are in {_short(plan.data_dir)}.")
    async with running_system(plan) as system:
        typer.echo(_where_everything_is(plan, system))
        write_ready_file(ready_file, _for_programs(system))
        try:
            await _keep_running(system, ready_file)
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)


def _owner_url(database_url: str | None, file: Path | None) -> str | None:
    """The database's owner as one of the two flags names it; None for the embedded PostgreSQL."""
    if file is None:
        parts = urlsplit(database_url or "")
        if parts.password or "password" in parse_qs(parts.query):
            raise StartRefused(
                "--database-url has a password, and `ps` shows the arguments of a program to everybody: write the URL"
                " into a file with mode 600, and name that with --database-url-file."
            )
        return database_url
    if database_url is not None:
        raise StartRefused(
            "--database-url and --database-url-file are two ways to name one database: give one of them."
        )
    if (why := why_not_private(file)) is not None:
        raise StartRefused(f"The file {file} of --database-url-file cannot be used: {why}.")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StartRefused(f"The file {file} of --database-url-file cannot be read: {error}.") from None


async def _keep_running(system: System, ready_file: Path | None) -> NoReturn:
    """Start again what ends, and say so; PartFailed for what does not begin to serve, or ends too often."""
    restarts: list[float] = []
    while True:
        part = await ended_part(system)
        ended = f"ended with exit code {part.process.returncode}"
        restarts = [at for at in restarts if time.monotonic() - at < RESTARTS_SECONDS]
        if len(restarts) == RESTARTS_MAX:
            raise PartFailed(
                part.name, f"{ended}, and parts were started again {RESTARTS_MAX} times in a minute", part.log
            )
        restarts.append(time.monotonic())
        typer.echo(f"{part.name} {ended}; its log is in {_short(part.log)}.previous. It is started again.")
        again = await start_again(system, part)
        # Who waits for the file finds it said.
        typer.echo(f"{part.name} serves again, as process {again.ready['pid']}.")
        write_ready_file(ready_file, _for_programs(system))


def _for_programs(system: System) -> dict[str, object]:
    """All addresses and the files with credentials."""
    return {
        "address": system.grpc_address,
        "grpc_address": system.grpc_address,
        "gateway_url": system.gateway_url,
        "daraja_url": system.daraja_url,
        "metrics_url": system.metrics_url,
        "simulator_url": system.daraja_url if system.simulated else None,
        "phones_url": f"{system.daraja_url}/phones" if system.simulated else None,
        "booking_url": system.examples.booking_url,
        "window_url": system.window_url,
        "desk_url": None if system.desk is None else system.desk.url,
        "desk_log_in": None if system.desk is None else dict(system.desk.log_in),
        "messages": None if system.examples.messages is None else str(system.examples.messages),
        "logs": str(system.logs),
        "processes": {part.name: part.ready["pid"] for part in system.parts},
        **{name: str(path) for name, path in system.files.items()},
        "certificates": None if system.certificates is None else str(system.certificates.folder),
    }


def _where_everything_is(plan: Plan, system: System) -> str:
    bin_dir = _short(Path(sys.executable).parent)
    # With a real Daraja a phone would ring: Safaricom's public test number does not.
    phone = "0711234567" if system.simulated else "254708374149"
    request = (
        f'{{"requestId": "first-{secrets.token_hex(4)}", "bookingId": "TRIP-{secrets.token_hex(2).upper()}",'
        f' "phoneNumber": "{phone}", "amount": {{"currencyCode": "KES", "units": 500}}}}'
    )
    curl, url = _buf_curl(system, f"{bin_dir}/buf curl --protocol grpc")
    service = f"{url}/mpesa_payments.v1.PaymentService"
    seen = "" if system.certificates is None else f" --certificates {_short(system.certificates.folder)}"
    named = ("database_url_file", "keys_file")
    inspecting = " ".join(f"PAYMENTS_{name.upper()}={_short(system.files[name])}" for name in named)
    processes = ", ".join(f"{part.name} {part.ready['pid']}" for part in system.parts)
    missing = next(part.ready.get("not_ready_for_payments") for part in system.parts if part.name == SERVICE)
    lines = [
        f"Everything serves, but it is not ready for payments: {missing}." if missing else "Everything serves.",
        "",
        f"  gRPC       {system.grpc_address}",
        f"  callbacks  {system.gateway_url}",
        f"  Daraja     {system.daraja_url}{' (the simulator)' if system.simulated else ''}",
        f"  metrics    {system.metrics_url}",
        f"  logs       {_short(system.logs)}",
        f"  processes  {processes}",
        "",
        *_pages(system),
        *_desk(plan, system),
        "Ask for a payment (again and again it is the same one, since the request id stays):",
        f"  {curl} -d {shlex.quote(request)} {service}/InitiatePayment",
        "Watch every payment:",
        f"  {bin_dir}/python -m development.view {system.grpc_address}{seen}",
        "Check all that is stored; or, with `explain` and a payment's id, read its whole story:",
        f"  {inspecting} {bin_dir}/payment-service check",
        "List the cases that wait for an operator:",
        f"  {_operating(system)} {bin_dir}/payment-service cases list",
        "Rehearse the crash of a part: kill -9 its process (without -9, its stop). It is started again.",
    ]
    if system.simulated:
        lines += ["Phones that end otherwise:", f"  {bin_dir}/daraja-simulator phones"]
    else:
        lines.append("Daraja must reach the callbacks: PAYMENTS_CALLBACK_BASE_URL is their public address.")
    if system.notice is not None:
        lines.append(system.notice)
    if plan.database_url is not None:
        lines.append("The database is your own.")
    lines += ["", "Stop with Ctrl-C."]
    return "\n".join(lines)


def _pages(system: System) -> list[str]:
    """What there is to be looked at in a browser."""
    lines = []
    if system.examples.booking_url is not None:
        lines += ["Book a seat, in a browser:", f"  {system.examples.booking_url}"]
    if system.simulated:
        lines += ["Answer its prompt on the phone, in another window:", f"  {system.daraja_url}/phones/0711234567"]
    if system.window_url is not None:
        lines += ["See every event, and every request to Daraja, as they come:", f"  {system.window_url}"]
    if system.examples.messages is not None:
        lines += ["What passengers are told, as SMS lines and e-mails:", f"  {_short(system.examples.messages)}"]
    if system.examples.notice is not None:
        lines.append(system.examples.notice)
    return lines


def _desk(plan: Plan, system: System) -> list[str]:
    """How to settle a case in a browser."""
    if system.desk is None:
        words = "in plaintext the service cannot tell a case desk from another caller"
        return [] if plan.desk_port is None else [f"The case desk is not started: {words}."]
    lines = ["Settle cases in a browser, logged in by a link that is for you alone; the approver is a second person:"]
    return lines + [f"  {person + ':':10} {link}" for person, link in system.desk.log_in.items()]


def _buf_curl(system: System, words: str) -> tuple[str, str]:
    """How the booking service calls from a shell: the command so far, and the URL that its last word begins with."""
    if system.certificates is None:
        return f"{words} --http2-prior-knowledge", f"http://{system.grpc_address}"
    certificates = system.certificates
    shown = f"--cert {_short(certificates.certificate(BOOKING))} --key {_short(certificates.key(BOOKING))}"
    return f"{words} --cacert {_short(certificates.certificate(AUTHORITY))} {shown}", f"https://{system.grpc_address}"


def _operating(system: System) -> str:
    """The settings with which an operator's command asks this service."""
    where = f"PAYMENTS_GRPC_ADDRESS={system.grpc_address}"
    if system.certificates is None:
        return f"{where} PAYMENTS_PLAINTEXT=true"
    settings = system.certificates.operator_settings
    return " ".join([where, *(f"{name}={_short(Path(path))}" for name, path in settings.items())])


def _short(path: Path) -> str:
    """As one would type it from here."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 -- .venv/bin/python is a link, and not to be followed
    here = Path.cwd()
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))
