"""Importing what a program consists of, without looking for garbage meanwhile."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For the imports of a whole program, within the block.

    The collector would walk what has been imported again and again, hundreds of times and in vain: an eighth of the
    processor time of a start. What is imported stays, so it is never looked at afterwards either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
