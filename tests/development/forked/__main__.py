"""A program of development that is made by a fork (`tests.forks`), and makes the parts that it starts by forks too.

`dev WORDS` is `payment-service dev`, and all else as its command line has it. Half of the processor time of a test with
the whole system goes into modules that each of a dozen programs reads anew.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import development.dev
import payment_service.__main__
from tests import forks

PROGRAM = "tests.development.forked"


def main() -> None:
    """Do as the words say."""
    name, *words = sys.argv[1:]
    if name != "dev":
        # A module that is a program, and no package with a `__main__`.
        sys.argv[1:] = words
        importlib.import_module(name).main()
        return
    # The process that made this one has read the modules of the parts as well.
    development.dev.dev = functools.partial(development.dev.dev, start=functools.partial(start_part, forks.made_by()))
    payment_service.__main__.app(args=[name, *words], prog_name="payment-service")


async def start_part(
    by: str, words: Sequence[str], environment: Mapping[str, str], output: int, _lock: int
) -> forks.Forked:
    """A part that has read its modules already.

    It neither holds the lock nor has a watchdog: should this process be killed, its parts end with the one that forks.
    """
    program, *rest = [*words] if words[0] in forks.MODULES else [PROGRAM, *words]
    with Path(os.devnull).open("rb") as nothing:
        files = {"stdin": nothing.fileno(), "stdout": output, "stderr": output}
        return await forks.fork_by(by, program, rest, environment, **files)
