"""`python -m tests.conformance.forked`: the conformance run, with every program's process made by a fork.

All else is as `python -m conformance` has it. Half of the processor time of that run goes into modules that each of
some forty programs reads anew.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.__main__ import main
from tests.forks import Forked, fork


async def start_forked(words: Sequence[str], environment: Mapping[str, str], output: int, _lock: int) -> Forked:
    """A process that has read its modules already.

    It does not hold the lock. Only a later run on the same folder waits for that, and this folder is new. Whatever is
    left when this process has ended is killed by the process that forks.
    """
    with Path(os.devnull).open("rb") as nothing:
        return await fork(words[0], words[1:], environment, stdin=nothing.fileno(), stdout=output, stderr=output)


if __name__ == "__main__":
    sys.exit(main(start_forked))
