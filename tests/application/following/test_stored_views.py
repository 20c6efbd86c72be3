"""Rows that a newer release wrote: what this one does not know is left out, and the rest is told."""

from pathlib import Path
from typing import Any
from uuid import UUID

from payment_service.application.following.stored_views import event_view
from payment_service.domain.payment import BookingAction, Status
from payment_service.domain.views import EventType
from payment_service.security.keys import create_keys, load_keys
from payment_service.security.sealing import PHONE_NUMBER, Sealer
from payment_service.store.reads import EventRow

KNOWN: dict[str, Any] = dict.fromkeys(EventRow._fields) | {
    "position": 7,
    "state": "FAILED",
    "metadata": {},
    "attempt": 1,
    "amount": 500,
    "version": 3,
    "outcome_certain": True,
    "paid_late": False,
    "language_code": "en",
}


def test_names_of_a_newer_release_do_not_stop_the_log(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys.json")
    sealer = Sealer(load_keys(tmp_path / "keys.json"))
    payment_id = UUID(int=7)
    newer = {"payment_id": payment_id, "event_type": "AUDITED", "status_reason": "NEW", "booking_action": "NEW"}
    phone_number = sealer.seal(PHONE_NUMBER, payment_id.bytes, b"254722000555")
    row = EventRow(**(KNOWN | newer | {"phone_warning": "NEW", "phone_number": phone_number}))
    event = event_view(row, sealer)
    assert event.event_type is EventType.UPDATED
    assert event.payment.status is Status.FAILED
    assert (event.payment.reason, event.payment.booking_action) == (None, BookingAction.WAIT)
    assert event.payment.phone_warning is None
