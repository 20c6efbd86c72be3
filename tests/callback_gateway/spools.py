"""Spools to test: their settings, callbacks for them, and what stands in their folders."""

from pathlib import Path

from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.spool_folder import SpoolFolder, open_spool_folder
from runtime.callback_tokens import callback_token
from tests.callback_gateway.edges import KEYS, new_reference


def a_callback(body: bytes) -> pb.Callback:
    """As the edge makes them."""
    reference = new_reference()
    callback = pb.Callback(
        kind=pb.CALLBACK_KIND_STK,
        reference=reference,
        token=callback_token(KEYS, "stk", reference),
        body=body,
        source_address="127.0.0.1",
    )
    callback.receive_time.GetCurrentTime()
    return callback


def settings(folder: Path) -> dict[str, Path | float]:
    """Of a gateway with a spool in the folder. The disk of a busy machine may take its time."""
    return {"spool_folder": folder / "spool", "spool_keys_file": folder / "spool-keys.json", "spool_time_s": 30.0}


def environment(folder: Path) -> dict[str, str]:
    """The same for the program."""
    return {f"GATEWAY_{name.upper()}": str(value) for name, value in settings(folder).items()}


def open_spool(folder: Path) -> SpoolFolder:
    """The folder of `settings`, as a gateway opens it."""
    return open_spool_folder(folder / "spool", folder / "spool-keys.json")


def files(folder: Path) -> list[str]:
    """Everything of the spool in the folder that holds callbacks, by its path in it."""
    spool = folder / "spool"
    return sorted(str(path.relative_to(spool)) for path in spool.rglob("*.spool"))
