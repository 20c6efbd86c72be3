"""A benchmark, small, in this process, with the programs of the project made by forks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from development.parts import Start
from tests.forked_parts import start_forked

PROJECT = Path(__file__).parents[2]


def quick_run(main: Callable[[Sequence[str], Start], int], results: Path) -> dict[str, Any]:
    """Run it: the results in the file that it has written. It must succeed."""
    assert main(["--quick", f"--output={results.parent}"], start_forked) == 0
    content: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return content
