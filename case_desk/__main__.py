"""Command line of the desk."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from case_desk.config import DeskSettings
from runtime.core_dumps import forbid_core_dumps
from runtime.importing import importing
from runtime.logs import configure_logs
from runtime.serving import StartRefused, ending_on_refusal, refuse, run
from runtime.settings import render_settings
from runtime.tls import read_tls

app = typer.Typer(name="case-desk", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def case_desk() -> None:
    """Settle cases in a browser, by way of the payment service."""
    forbid_core_dumps()


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 picks a free one.")] = None,
    core: Annotated[str | None, typer.Option(help="HOST:PORT of the payment service.")] = None,
    plaintext: Annotated[
        bool | None, typer.Option("--plaintext", help="Call a payment service on this machine without TLS.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written as JSON once the desk serves.")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Show the settings, check, and leave.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Settings are DESK_* in the environment; flags win."""
    try:
        settings = DeskSettings.load(listen_address=listen, core_address=core, plaintext=plaintext)
    except StartRefused as refusal:
        refuse(refusal)
    with ending_on_refusal():
        for files in (settings.core_tls, settings.tls):
            if files is not None:
                read_tls(files, datetime.now(UTC))
    if check_config:
        sys.stdout.write(render_settings(settings))
        return
    with importing():
        from case_desk.app import serve as serve_desk
        from runtime.exporting import exporting

    configure_logs("case-desk", settings.log_level)
    with ending_on_refusal(), exporting("case-desk", settings.metrics_address, "DESK_METRICS_ADDRESS"):
        run(serve_desk(settings, ready_file))


if __name__ == "__main__":
    app()
