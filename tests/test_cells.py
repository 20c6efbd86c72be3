"""A test that goes through a table fails as each cell on its own would."""

from __future__ import annotations

import pytest

from tests.cells import try_each


def is_small(number: int) -> None:
    assert number < 10


def test_every_cell_that_is_wrong_is_named_with_what_was_found() -> None:
    with pytest.raises(AssertionError) as failure:
        try_each({"first": (11,), "second": (2,), "third": (33,)}, is_small)
    said = str(failure.value)
    assert "2 of 3 cells are wrong" in said
    assert "first: assert 11 < 10" in said
    assert "third: assert 33 < 10" in said
    assert "second" not in said


def test_a_table_that_is_right_passes_and_one_without_cells_does_not() -> None:
    try_each({"first": (1,), "second": (2,)}, is_small)
    with pytest.raises(AssertionError):
        try_each({}, is_small)


def test_a_cell_that_cannot_be_tried_is_named() -> None:
    def breaks(number: int) -> None:
        raise LookupError(number)

    with pytest.raises(LookupError) as broken:
        try_each({"first": (1,)}, breaks)
    assert broken.value.__notes__ == ["in the cell first"]
