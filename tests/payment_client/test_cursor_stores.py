"""What every cursor store promises, whatever it keeps the cursor in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import pytest
import sqlalchemy as sa
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from payment_client.cursors.file import CursorFileInUse, FileCursors
from payment_client.cursors.sqlalchemy import SqlAlchemyCursors

from payment_client import CursorMoved, CursorStore, payment_pb2

Stores = Callable[[], CursorStore[Any]]


@contextmanager
def in_a_file(folder: Path) -> Iterator[Stores]:
    kept = FileCursors(folder / "cursor.json")
    yield lambda: kept


@contextmanager
def by_sqlalchemy(folder: Path) -> Iterator[Stores]:
    engine = sa.create_engine(f"sqlite:///{folder / 'shop.sqlite3'}")
    SqlAlchemyCursors(engine, "booking").create_tables()
    yield lambda: SqlAlchemyCursors(engine, "booking")
    engine.dispose()


@contextmanager
def by_django(folder: Path) -> Iterator[Stores]:
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["payment_client.cursors.django"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            USE_TZ=True,
        )
        django.setup()
    from payment_client.cursors.django.store import DjangoCursors

    assert apps.is_installed("payment_client.cursors.django")
    call_command("migrate", verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    # The migrations make what the models say.
    call_command("makemigrations", "payment_cursors", check=True, dry_run=True, verbosity=0)
    yield lambda: DjangoCursors("booking")
    connections.close_all()


@pytest.fixture(params=[in_a_file, by_sqlalchemy, by_django], ids=lambda made: str(made.__name__))
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    with request.param(tmp_path) as made:
        yield made


def an_event(number: int) -> payment_pb2.PaymentEvent:
    return payment_pb2.PaymentEvent(event_id=f"event-{number}", payment=payment_pb2.Payment(booking_id="TRIP-1"))


def move(store: CursorStore[Any], before: str, after: str) -> None:
    with store.moving(before, after):
        pass


def test_a_cursor_moves_with_the_transaction_and_stays_when_that_fails(stores: Stores) -> None:
    store = stores()
    assert store.load() == ""
    move(store, "", "one")
    assert stores().load() == "one"
    with pytest.raises(ZeroDivisionError), store.moving("one", "two"):
        raise ZeroDivisionError
    assert stores().load() == "one"
    move(store, "one", "two")
    assert stores().load() == "two"


def test_what_is_set_aside_waits_in_order_until_it_is_taken_back(stores: Stores) -> None:
    store = stores()
    store.load()
    for number, cursor in enumerate(("a", "b", "c")):
        with store.moving(store.load(), cursor) as transaction:
            store.set_aside(transaction, an_event(number), "it fails")
    with pytest.raises(ZeroDivisionError):
        set_aside_in_vain(store)
    with pytest.raises(ZeroDivisionError), store.retaking("event-0"):
        raise ZeroDivisionError
    assert stores().waiting() == [an_event(0), an_event(1), an_event(2)]
    with store.retaking("event-1"):
        pass
    assert stores().waiting() == [an_event(0), an_event(2)]


def set_aside_in_vain(store: CursorStore[Any]) -> None:
    with store.moving("c", "d") as transaction:
        store.set_aside(transaction, an_event(9), "it fails")
        raise ZeroDivisionError


@pytest.mark.parametrize("made", [by_sqlalchemy, by_django], ids=lambda made: str(made.__name__))
def test_two_instances_never_move_the_same_cursor_from_the_same_place(
    made: Callable[[Path], Any], tmp_path: Path
) -> None:
    with made(tmp_path) as stores:
        one, other = stores(), stores()
        move(one, "", "one")
        with pytest.raises(CursorMoved):
            move(other, "", "one")
        move(other, "one", "two")
        with pytest.raises(CursorMoved):
            move(one, "one", "two")
        assert one.load() == "two"
        with one.moving("two", "three") as transaction:
            one.set_aside(transaction, an_event(1), "it fails")
        with other.retaking("event-1"):
            pass
        with pytest.raises(CursorMoved), one.retaking("event-1"):
            pass


def test_a_file_belongs_to_one_process(tmp_path: Path) -> None:
    first = FileCursors(tmp_path / "cursor.json")
    first.load()
    with pytest.raises(CursorFileInUse, match="name another file"):
        FileCursors(tmp_path / "cursor.json").load()
    first.close()
    assert FileCursors(tmp_path / "cursor.json").load() == ""
