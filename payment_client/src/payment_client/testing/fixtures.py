"""For pytest: name this module in `pytest_plugins` of your conftest.py, and ask for `fake_payments`."""

from collections.abc import Iterator

import pytest

from payment_client.testing import FakePayments


@pytest.fixture
def fake_payments() -> Iterator[FakePayments]:
    """A payment service of the test's own."""
    with FakePayments() as fake:
        yield fake
