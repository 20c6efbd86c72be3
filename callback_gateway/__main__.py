"""Command line of the gateway."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from callback_gateway.config import GatewaySettings
from callback_gateway.spool_folder import load_spool_keys
from callback_gateway.spool_keys import keys
from runtime.callback_tokens import load_callback_keys
from runtime.core_dumps import forbid_core_dumps
from runtime.importing import importing
from runtime.logs import configure_logs
from runtime.serving import StartRefused, ending_on_refusal, refuse, run
from runtime.settings import render_settings
from runtime.tls import read_tls

app = typer.Typer(name="callback-gateway", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(keys, name="keys")


@app.callback()
def callback_gateway() -> None:
    """Take Safaricom's callbacks at the public edge and hand them to the payment service."""
    forbid_core_dumps()


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 picks a free one.")] = None,
    core: Annotated[str | None, typer.Option(help="HOST:PORT of the payment service.")] = None,
    plaintext: Annotated[
        bool | None, typer.Option("--plaintext", help="Call a payment service on this machine without TLS.")
    ] = None,
    callback_keys_file: Annotated[Path | None, typer.Option(help="Keys for callback tokens.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written as JSON once the gateway serves.")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Show the settings, check, and leave.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Settings are GATEWAY_* in the environment; flags win."""
    try:
        settings = GatewaySettings.load(
            listen_address=listen, core_address=core, plaintext=plaintext, callback_keys_file=callback_keys_file
        )
    except StartRefused as refusal:
        refuse(refusal)
    if check_config:
        sys.stdout.write(render_settings(settings))
        with ending_on_refusal():
            load_callback_keys(settings.callback_keys_file)
            if settings.spool_keys_file is not None and settings.spool_keys_file.exists():
                load_spool_keys(settings.spool_keys_file)
            if settings.core_tls is not None:
                read_tls(settings.core_tls, datetime.now(UTC))
        return
    with importing():
        from callback_gateway.app import serve as serve_gateway
        from runtime.exporting import exporting

    configure_logs("callback-gateway", settings.log_level)
    with ending_on_refusal(), exporting("callback-gateway", settings.metrics_address, "GATEWAY_METRICS_ADDRESS"):
        run(serve_gateway(settings, ready_file))


if __name__ == "__main__":
    app()
