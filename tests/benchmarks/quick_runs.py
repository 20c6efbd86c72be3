"""A benchmark as its users start it, small."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from development.slowness import slowness

PROJECT = Path(__file__).parents[2]
WAIT_SECONDS = 160.0 * slowness()


async def quick_run(module: str, results: Path) -> tuple[dict[str, Any], str]:
    """Run it: the results in the file that it has written, and what it has printed. It must succeed."""
    words = ["-m", module, "--quick", f"--output={results.parent}"]
    output = asyncio.subprocess.PIPE
    bench = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=PROJECT, stdout=output, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(WAIT_SECONDS):
        printed, _ = await bench.communicate()
    assert bench.returncode == 0, printed.decode()[-3000:]
    return json.loads(results.read_text(encoding="utf-8")), printed.decode()
