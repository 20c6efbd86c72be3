"""`payment-service keys`: a key is replaced while the service runs, one safe step at a time."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from payment_service.config import KeySettings
from runtime.logs import configure_logs
from runtime.serving import StartRefused, refuse, run

keys = typer.Typer(no_args_is_help=True, help="Replace the service's keys, while it runs.")


class Purpose(StrEnum):
    """What keys are for."""

    SEALING = "sealing"
    INDEX = "index"
    FINGERPRINT = "fingerprint"
    CHAIN = "chain"
    CALLBACK = "callback"


ForWhat = Annotated[Purpose, typer.Argument(help="What the key is for.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


@keys.command("list")
def list_keys() -> None:
    """Show every key by its id, never the key: which is current, who holds it, and until when it was used."""
    from payment_service.commands import key_steps

    run(key_steps.list_keys(_settings(), Console()))


@keys.command("add")
def add(purpose: ForWhat) -> None:
    """Add a new key to the file. Nothing is made with it yet."""
    from payment_service.commands import key_steps

    run(key_steps.add(_settings(), purpose, Console()))


@keys.command("use")
def use(
    purpose: ForWhat,
    key: KeyId,
    wait: Annotated[
        float, typer.Option(min=0, help="How long to wait for processes that do not hold the key yet, seconds.")
    ] = 30.0,
) -> None:
    """Make a key the current one, once every running process holds it."""
    from payment_service.commands import key_steps

    if purpose is Purpose.INDEX:
        refuse(StartRefused("An index key is put in place while no service runs: payment-service keys reindex."))
    run(key_steps.use(_settings(), purpose, key, wait, Console()))


@keys.command("reseal")
def reseal() -> None:
    """Seal and fingerprint everything that is stored anew with the current keys, beside the service.

    Goes on where it was broken off. Needs the owner of the database in PAYMENTS_DATABASE_URL.
    """
    from payment_service.commands import key_steps

    run(key_steps.reseal(_settings(), Console()))


@keys.command("retire")
def retire(purpose: ForWhat, key: KeyId) -> None:
    """Take a key out of the file, once nothing needs it. What still needs it is said."""
    from payment_service.commands import key_steps

    run(key_steps.retire(_settings(), purpose, key, Console()))


@keys.command("reindex")
def reindex(key: KeyId) -> None:
    """Make the blind indexes of all payments anew with another index key, while no service runs.

    Safe to run again after a kill. Needs the owner of the database in PAYMENTS_DATABASE_URL.
    """
    from payment_service.commands import key_steps

    run(key_steps.reindex(_settings(), key, Console()))


def _settings() -> KeySettings:
    try:
        settings = KeySettings.load()
    except StartRefused as refusal:
        refuse(refusal)
    configure_logs("payment-service", "WARNING")
    return settings
