"""`callback-gateway keys`: the key that the spool is sealed with is replaced while the gateway runs.

Only the gateway itself reads its spool, so nobody else needs the new key first. A key is needed for as long as a record
that it sealed lies in the spool's folder, with what is kept there for an operator.
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from callback_gateway.spool_folder import keys_needed, load_spool_keys
from runtime.followed_keys import LOOK_SECONDS
from runtime.key_files import add_key, changing, drop_key, use_key
from runtime.serving import StartRefused, ending_on_refusal

USED_UNTIL_SECONDS = 15.0
"""A running gateway has read the file by then, and what it sealed before is on the disk."""
assert USED_UNTIL_SECONDS > 2 * LOOK_SECONDS

keys = typer.Typer(no_args_is_help=True, help="Replace the keys of the spool, while the gateway runs.")

KeysFile = Annotated[
    Path, typer.Option("--keys-file", envvar="GATEWAY_SPOOL_KEYS_FILE", help="The keys that the spool is sealed with.")
]
Folder = Annotated[Path, typer.Option("--folder", envvar="GATEWAY_SPOOL_FOLDER", help="The spool's folder.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


@keys.command("list")
def list_keys(keys_file: KeysFile, folder: Folder) -> None:
    """Show every key by its id, never the key: which is current, and how many records need it."""
    with ending_on_refusal():
        ring, needed = load_spool_keys(keys_file), _needed(folder)
        for key_id in ring.keys:
            current = "current" if key_id == ring.current_id else "       "
            sys.stdout.write(f"{key_id}  {current}  {needed.get(key_id, 0)} records\n")


@keys.command("add")
def add(keys_file: KeysFile) -> None:
    """Add a new key to the file. Nothing is sealed with it yet."""
    with ending_on_refusal():
        with changing(keys_file) as ring:
            key_id = add_key(ring, [], one_character=False)
        sys.stdout.write(f"{keys_file} has a new key {key_id}; then: callback-gateway keys use {key_id}\n")


@keys.command("use")
def use(keys_file: KeysFile, key: KeyId) -> None:
    """Make a key the current one. A running gateway uses it within seconds."""
    with ending_on_refusal():
        with changing(keys_file) as ring:
            use_key(ring, key)
        sys.stdout.write(f"New records are sealed with {key} from now on.\n")


@keys.command("retire")
def retire(keys_file: KeysFile, folder: Folder, key: KeyId) -> None:
    """Take a key out of the file, once no record in the spool needs it."""
    with ending_on_refusal():
        age = time.time() - keys_file.stat().st_mtime if keys_file.exists() else USED_UNTIL_SECONDS
        if age < USED_UNTIL_SECONDS:
            raise StartRefused(
                f"{keys_file} was changed {age:.0f} s ago, and a running gateway may still use the key of before: try"
                f" again in {USED_UNTIL_SECONDS - age:.0f} s."
            )
        with changing(keys_file) as ring:
            if count := _needed(folder).get(key, 0):
                raise StartRefused(
                    f"{count} records in {folder} are sealed with {key}: wait until they are delivered, and settle what"
                    " lies in rejected/ and damaged/."
                )
            drop_key(ring, key)
        sys.stdout.write(f"The key {key} is retired: no record needs it.\n")


def _needed(folder: Path) -> dict[str, int]:
    try:
        return keys_needed(folder)
    except OSError as error:
        raise StartRefused(f"The spool in {folder} cannot be read: {error.strerror}.") from error
