"""While a program is imported nothing is looked through for garbage, and afterwards everything that is new is."""

import gc
from collections.abc import Iterator

import pytest

from runtime.importing import importing


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    # The process of these tests may have frozen what it has imported, too.
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_collector_rests_until_all_is_imported_and_never_looks_at_it() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1_000


def test_the_collector_works_again_after_an_import_that_failed() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401 -- neither is there such a one
    assert gc.isenabled()
