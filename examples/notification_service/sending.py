"""Sending what is written down: a line for the SMS gateway, and an e-mail.

Both are told apart by the message's number, so that what was sent just before a crash is recognised after it:

* the file of SMS lines is read for its last number before another line is added, and a line that was cut off goes;
* an e-mail has a Message-ID made of the event's id. SMTP itself cannot do more: between the server's "250" and our
  commit there is a moment in which a crash sends it again, and a mailbox that knows the id files it once.
"""

from __future__ import annotations

import logging
import smtplib
import threading
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Column, Engine, select, update

from examples.notification_service.messages import messages

LOOK_SECONDS = 0.2
AT_ONCE = 100
TAIL_BYTES = 4_096
"""More than one line has."""

log = logging.getLogger("notification_service")


class Message(NamedTuple):
    """What is to be sent."""

    number: int
    event_id: str
    booking_id: str
    phone: str
    text: str


class SmsFile:
    """The lines that the SMS gateway picks up: number, phone and text, separated by tabs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Message) -> None:
        """Add its line, unless it is there."""
        with self._path.open("a+b") as file:
            whole = file.tell()
            file.seek(max(0, whole - TAIL_BYTES))
            tail = file.read()
            lines, cut_off = tail[: tail.rfind(b"\n") + 1], tail[tail.rfind(b"\n") + 1 :]
            file.truncate(whole - len(cut_off))
            last = lines.splitlines()[-1] if lines else b"0"
            if int(last.split(b"\t")[0]) < message.number:
                file.write(f"{message.number}\t{message.phone}\t{message.text}\n".encode())


class Mails:
    """E-mails by SMTP."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    def send(self, message: Message) -> None:
        """Send one, with an id by which a second copy is known."""
        mail = EmailMessage()
        mail["Message-ID"] = f"<{message.event_id}@notifications.example>"
        mail["From"], mail["To"] = "bookings@notifications.example", f"{message.booking_id}@passengers.example"
        mail["Subject"] = f"Your booking {message.booking_id}"
        mail.set_content(message.text)
        with smtplib.SMTP(self._host, self._port, timeout=10) as server:
            server.send_message(mail)


def keep_sending(engine: Engine, sms: SmsFile, mails: Mails, closed: threading.Event) -> None:
    """Send whatever is written down, until closed."""
    ways = ((sms, messages.c.sms_done), (mails, messages.c.mail_done))
    while not closed.wait(LOOK_SECONDS):
        for way, done in ways:
            try:
                _send_due(engine, way, done)
            except Exception as error:
                # The mail server is away, say: it is tried again, and the other way goes on.
                log.warning("sending failed, and goes on", exc_info=error)


def _send_due(engine: Engine, way: SmsFile | Mails, done: Column[bool]) -> None:
    columns = [messages.c[name] for name in Message._fields]
    with engine.connect() as connection:
        due = connection.execute(select(*columns).where(~done).order_by(messages.c.number).limit(AT_ONCE)).all()
    for message in map(Message._make, due):
        way.send(message)
        with engine.begin() as connection:
            connection.execute(update(messages).where(messages.c.number == message.number).values({done.name: True}))
