"""The command line: `daraja-simulator serve | quirks | phones`. Decides nothing but how words become settings."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from daraja_simulator.phones import PHONES, RANGE_PREFIX, SANDBOX_TEST_PHONE
from daraja_simulator.quirks import QUIRKS, listing
from daraja_simulator.server import Files, Listener, PortTaken, serve
from daraja_simulator.settings import (
    DEFAULT_SHORTCODES,
    DEVELOPMENT_CONSUMER_KEY,
    DEVELOPMENT_CONSUMER_SECRET,
    DEVELOPMENT_INITIATOR_NAME,
    DEVELOPMENT_INITIATOR_PASSWORD,
    Settings,
    parse_app,
    parse_seconds,
    parse_shortcodes,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A Daraja to develop and test against.")


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8070,
    seed: Annotated[int, typer.Option(help="The same seed gives every phone the same history.")] = 1,
    latency: Annotated[str, typer.Option(help="Time to answer: recorded, none, or seconds.")] = "recorded",
    callback_delay: Annotated[
        str, typer.Option(help="To the result, from prompt or status query: phone (the usual time), or seconds.")
    ] = "phone",
    quirks: Annotated[str, typer.Option(help="on: each quirk at its share; off: only where scripted.")] = "on",
    shortcodes: Annotated[str, typer.Option(help="Merchants: NUMBER[:TILL][=PASSKEY],…")] = DEFAULT_SHORTCODES,
    consumer_key: Annotated[str, typer.Option(help="The app's consumer key.")] = DEVELOPMENT_CONSUMER_KEY,
    consumer_secret: Annotated[str, typer.Option(help="The app's consumer secret.")] = DEVELOPMENT_CONSUMER_SECRET,
    app_: Annotated[
        list[str] | None,
        typer.Option("--app", help="Another app, and the shortcodes called as it: NUMBER[+NUMBER…]=KEY:SECRET"),
    ] = None,
    initiator_name: Annotated[
        str, typer.Option(help="The operator who may ask for a transaction's status and send money.")
    ] = DEVELOPMENT_INITIATOR_NAME,
    initiator_password: Annotated[str, typer.Option(help="And its password.")] = DEVELOPMENT_INITIATOR_PASSWORD,
    queries_per_minute: Annotated[int, typer.Option(min=0, help="Limit on queries; 0 takes it away.")] = 5,
    clock_tolerance: Annotated[float, typer.Option(min=0, help="Seconds a Timestamp may be off.")] = 900.0,
    utc_timestamps: Annotated[
        bool, typer.Option("--utc-timestamps", help="Take a Timestamp in UTC as well, which Daraja does not.")
    ] = False,
    ready_file: Annotated[Path | None, typer.Option(help="Written once it serves: pid, address, url.")] = None,
    certificate_file: Annotated[
        Path | None, typer.Option(help="Written before it serves: the certificate to encrypt the password for.")
    ] = None,
    report_file: Annotated[Path | None, typer.Option(help="Written at the end: times each quirk was hit.")] = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    if quirks not in ("on", "off"):
        raise typer.BadParameter("--quirks is on or off")
    try:
        settings = Settings(
            seed=seed,
            latency_seconds=parse_seconds(latency, recorded="recorded", none_word="none"),
            callback_delay_seconds=parse_seconds(callback_delay, recorded="phone"),
            quirks=quirks == "on",
            consumer_key=consumer_key,
            consumer_secret=consumer_secret,
            more_apps=tuple(map(parse_app, app_ or ())),
            shortcodes=parse_shortcodes(shortcodes),
            initiator_name=initiator_name,
            initiator_password=initiator_password,
            queries_per_minute=queries_per_minute,
            clock_tolerance_seconds=clock_tolerance,
            takes_utc=utc_timestamps,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    files = Files(ready=ready_file, report=report_file, certificate=certificate_file)
    try:
        uvloop.run(serve(settings, Listener(host, port), files))
    except PortTaken as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command("quirks")
def quirks_command(
    url: Annotated[str | None, typer.Option(help="A running simulator, such as http://127.0.0.1:8070.")] = None,
    reports: Annotated[
        Path | None,
        typer.Option(help="Folder of --report-file files: sums them, and exits 1 if a quirk was never hit."),
    ] = None,
) -> None:
    """List every quirk: id, share, origin, times hit, and what it is."""
    hits: Counter[str] = Counter()
    if url is not None:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/control/quirks", timeout=10) as answer:
                hits.update({entry["id"]: entry["hits"] for entry in json.load(answer)["quirks"]})
        except (urllib.error.URLError, ValueError) as error:
            typer.echo(f"No simulator answers at {url}: {error}", err=True)
            raise typer.Exit(1) from None
    if reports is not None:
        hits += summed(reports)
    for entry in listing(hits):
        share = f"{entry['share']:.0%}" if entry["share"] else "-"
        typer.echo(f"{entry['id']:<30} {share:>5}  {entry['origin']:<9} {entry['hits']:>8}  {entry['text']}")
    never = [quirk.id for quirk in QUIRKS if not hits[quirk.id]]
    if reports is not None and never:
        typer.echo(f"Never hit: {', '.join(never)}", err=True)
        raise typer.Exit(1)


@app.command("phones")
def phones_command() -> None:
    """List the virtual phones: the number decides how a prompt ends."""
    typer.echo(f"{'number':<14} {'ending':<16} {'seconds':>9}  the owner")
    for phone in PHONES:
        ending = phone.ending
        seconds = f"{ending.seconds_low:.0f}-{ending.seconds_high:.0f}"
        typer.echo(f"{RANGE_PREFIX + 'NN' + phone.digits:<14} {ending.name:<16} {seconds:>9}  {phone.text}")
    typer.echo(f"{SANDBOX_TEST_PHONE:<14} {'unreachable':<16} {'25-27':>9}  never answers, as in Safaricom's sandbox")
    typer.echo(f"{'any other':<14} {'paid':<16} {'10-18':>9}  pays")


def summed(folder: Path) -> Counter[str]:
    """Times each quirk was hit, over all reports in a folder."""
    total: Counter[str] = Counter()
    for path in sorted(folder.glob("*.json")):
        total.update(json.loads(path.read_text())["quirks"])
    return total


if __name__ == "__main__":
    app()
