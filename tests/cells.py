"""A table that one test goes through cell by cell, to name every cell that is wrong.

A test of its own for each of some thousand cells costs a multiple of what trying the cell does, in every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVarTuple

Cell = TypeVarTuple("Cell")


def try_each(cells: Mapping[str, tuple[*Cell]], check: Callable[[*Cell], None]) -> None:
    """Checks every cell, also behind one that fails; fails with what was found and what was expected in each."""
    wrong = []
    for name, cell in cells.items():
        try:
            check(*cell)
        except AssertionError as failure:
            wrong.append(f"{name}: {failure}")
        except Exception as broken:
            broken.add_note(f"in the cell {name}")
            raise
    assert cells
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(cells)} cells are wrong.", *wrong])
