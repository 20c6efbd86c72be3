"""A benchmark, small, in this process, with the programs of the project made by forks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from development.parts import Running, Start, start_watched
from tests.forks import MODULES, fork

PROJECT = Path(__file__).parents[2]


def quick_run(main: Callable[[Sequence[str], Start], int], results: Path) -> dict[str, Any]:
    """Run it: the results in the file that it has written. It must succeed."""
    assert main(["--quick", f"--output={results.parent}"], _start_forked) == 0
    content: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return content


async def _start_forked(words: Sequence[str], environment: Mapping[str, str], output: int, lock: int) -> Running:
    """A process that has read its modules already; what only the benchmark has is started by its command line.

    The benchmark's folders are new, so there is no later run on them for which a lock would be held.
    """
    if words[0] not in MODULES:
        return await start_watched(words, environment, output, lock)
    with Path(os.devnull).open("rb") as nothing:
        return await fork(words[0], words[1:], environment, stdin=nothing.fileno(), stdout=output, stderr=output)
