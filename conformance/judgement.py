"""How a case says what must be so, and how it waits for it: on a condition, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from development.slowness import slowness

# Longer than anything takes, however busy the machine; reached only when something is broken.
PATIENCE_SECONDS = 60.0 * slowness()
LOOK_SECONDS = 0.05

Found = TypeVar("Found")


class NotSo(Exception):
    """Something that must be so is not; the text says what."""


def expect(what: str, found: object, wanted: object) -> None:
    """Two things must be equal."""
    if found != wanted:
        raise NotSo(f"{what}: found {found!r}, wanted {wanted!r}")


async def until(look: Callable[[], Awaitable[Found | None]], what: str) -> Found:
    """Look again and again until something is found."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await look()) is None:
                await asyncio.sleep(LOOK_SECONDS)
            return found
    except TimeoutError:
        raise NotSo(f"never came: {what}") from None
