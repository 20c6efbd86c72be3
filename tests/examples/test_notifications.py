"""What the notification service writes down and sends: each piece of news once, also where a crash came in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mpesa_payments.v1 import payment_pb2 as pb
from sqlalchemy import create_engine, select

from examples.notification_service.mail_sink import serve_mail
from examples.notification_service.messages import messages, metadata, take_event
from examples.notification_service.sending import Mails, Message, SmsFile

FIRST = Message(1, "payment-1-4", "BK-1", "2547*****678", "KES 500, booking BK-1: Payment received. Thank you.")
SECOND = Message(2, "payment-2-4", "BK-2", "2547*****678", "KES 500, booking BK-2: Malipo yamepokelewa. Asante.")


def test_only_an_end_is_news_and_its_message_has_the_receipt() -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    paid = pb.Payment(booking_id="BK-1", status=pb.PAYMENT_STATUS_COMPLETED, mpesa_receipt_number="SJ12345678")
    paid.amount.units, paid.customer_message = 500, "Payment received. Thank you."
    open_still = pb.Payment(booking_id="BK-1", status=pb.PAYMENT_STATUS_PROCESSING)
    with engine.begin() as connection:
        for number, payment, before in (
            (1, open_still, pb.PAYMENT_STATUS_PENDING),
            (2, paid, pb.PAYMENT_STATUS_PROCESSING),
            (3, paid, pb.PAYMENT_STATUS_COMPLETED),
        ):
            take_event(pb.PaymentEvent(event_id=f"e-{number}", payment=payment, previous_status=before), connection)
        written = connection.execute(select(messages.c.event_id, messages.c.text)).all()
    assert written == [("e-2", "KES 500, booking BK-1: Payment received. Thank you. Receipt SJ12345678.")]


@pytest.mark.parametrize("cut_off", [b"", b"2\t2547*****678\tKES 500, boo"])
def test_a_line_that_stands_in_the_file_is_not_written_again(tmp_path: Path, cut_off: bytes) -> None:
    path = tmp_path / "sms.txt"
    SmsFile(path).send(FIRST)
    with path.open("ab") as file:
        file.write(cut_off)
    # As after a crash: what was sent is not known to be, and what was being sent is there in part.
    for message in (FIRST, SECOND, SECOND):
        SmsFile(path).send(message)
    assert path.read_text().splitlines() == [
        f"1\t2547*****678\t{FIRST.text}",
        f"2\t2547*****678\t{SECOND.text}",
    ]


async def test_a_mail_that_is_sent_again_is_filed_once(tmp_path: Path) -> None:
    server = await serve_mail(tmp_path, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    for message in (FIRST, FIRST, SECOND):
        await asyncio.to_thread(Mails(host, port).send, message)
    server.close()
    filed = {path.name: path.read_text() for path in tmp_path.glob("*.eml")}
    assert set(filed) == {f"{one.event_id}-notifications.example.eml" for one in (FIRST, SECOND)}
    assert "Thank you." in filed[f"{FIRST.event_id}-notifications.example.eml"]
