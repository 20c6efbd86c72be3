"""A mail server for development: it files each mail in a folder, under its Message-ID, and delivers nothing."""

from __future__ import annotations

import asyncio
import email
import re
from functools import partial
from pathlib import Path

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")


async def serve_mail(folder: Path, host: str, port: int) -> asyncio.Server:
    """Take mail from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    return await asyncio.start_server(partial(_talk, folder), host, port)


async def _talk(folder: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: the handful of commands that a sender uses."""
    try:
        writer.write(b"220 mail sink\r\n")
        while line := await reader.readline():
            command = line.strip().upper()
            if command.startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")
                await writer.drain()
                return
            if command.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                _file(folder, await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"250 ok\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # The sender was cut off: nothing of this mail was taken.
    finally:
        writer.close()


def _file(folder: Path, content: bytes) -> None:
    """Whole or not at all, and a second copy replaces the first."""
    name = _NOT_IN_A_NAME.sub("-", email.message_from_bytes(content)["Message-ID"] or "without an id").strip("-")
    partly = folder / f".{name}"
    partly.write_bytes(content)
    partly.replace(folder / f"{name}.eml")
