"""Commands of `payment-service`, each a process of its own with an environment of its own, as operators run them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.forks import MINIMAL, fork
from tests.patience import PATIENCE_SECONDS


async def command(
    environment: Mapping[str, str], *words: str, stdin: int = asyncio.subprocess.DEVNULL
) -> tuple[int, str, str]:
    """Run `payment-service` with these words: exit code, output, errors."""
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        Path(os.devnull).open("rb") as nothing,
    ):
        process = await fork(
            "payment_service",
            words,
            {**MINIMAL, **environment},
            stdin=nothing.fileno() if stdin == asyncio.subprocess.DEVNULL else stdin,
            stdout=output.fileno(),
            stderr=errors.fileno(),
        )
        try:
            code = await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        except (asyncio.CancelledError, TimeoutError):
            process.kill()
            raise
        output.seek(0)
        errors.seek(0)
        return code, output.read().decode(), errors.read().decode()
