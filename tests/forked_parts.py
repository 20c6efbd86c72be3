"""The parts of a system, made by forks: their starts take most of the processor time of its tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from development.parts import Running, start_watched
from tests.forks import MODULES, fork


async def start_forked(words: Sequence[str], environment: Mapping[str, str], output: int, lock: int) -> Running:
    """A process that has read its modules already; what is not among those that are forked starts by its command line.

    A fork does not hold the lock. Only a later run on the same folder waits for it, so the folder is to be new.
    """
    if words[0] not in MODULES:
        return await start_watched(words, environment, output, lock)
    with Path(os.devnull).open("rb") as nothing:
        return await fork(words[0], words[1:], environment, stdin=nothing.fileno(), stdout=output, stderr=output)
