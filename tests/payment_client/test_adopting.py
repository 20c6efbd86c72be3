"""docs/adopting.md works as it stands: every snippet is run, but for the addresses in it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import runpy
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from payment_client.testing import FakePayments, Outcome
from pypdf import PdfReader
from sqlalchemy.ext.asyncio import create_async_engine

from development.postgres import EmbeddedServer
from payment_client import PaymentsClient, RefundReason, TlsFiles
from payment_service.application.recording.record_facts import Submission
from tests.certificates import certificates_in, door_of
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import a_purchase
from tests.rpc.processes import Process, paid, running_process, sent

PAGE = Path(__file__).parents[2] / "docs" / "adopting.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SNIPPETS = {block.splitlines()[0].removeprefix("# "): block for block in BLOCKS}
LINES_OF_THE_TEAMS_OWN = 20

SETTINGS = """
SECRET_KEY = "for this test"
INSTALLED_APPS = ["payment_client.cursors.django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}
"""
MODELS = """
from django.db import models

class Booking(models.Model):
    booking_id = models.CharField(max_length=64)
    state = models.CharField(max_length=20, default="HELD")
"""


class Shop:
    """A folder with the files of the page, beside a service as `make run` starts it."""

    def __init__(self, folder: Path, process: Process) -> None:
        self.folder, self.process = folder, process

    def write(self, name: str, content: str = "", **replaced: str) -> None:
        """A file: a snippet of the page with the addresses of this test, or what is given."""
        content = content or SNIPPETS[name].replace("127.0.0.1:50051", str(self.process.server.address))
        for old, new in replaced.items():
            assert old in content
            content = content.replace(old, new)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A program of the team's, ended with the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ".", "DJANGO_SETTINGS_MODULE": "settings"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, *arguments: str) -> str:
        """What a program prints, which ends by itself and well."""
        async with self.running(*arguments) as process:
            output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def pay_whatever_is_asked_for(self) -> None:
        """The passengers of `make run`, in no time."""
        paid_for: set[UUID] = set()
        tls = self.process_files()
        async with PaymentsClient(str(self.process.server.address), tls=tls, timeout=PATIENCE_SECONDS) as client:
            async for event in client.watch_payments():
                payment_id = UUID(event.payment.payment_id)
                if payment_id not in paid_for:
                    paid_for.add(payment_id)
                    number = len(paid_for)
                    for fact in (*sent(number), paid(f"SJ{number:08}")):
                        await self.process.writers.facts.submit(Submission(fact, payment_id))

    def process_files(self) -> TlsFiles:
        folder = self.folder / ".dev" / "certificates"
        return TlsFiles(folder / "authority.pem", folder / "booking.pem", folder / "booking-key.pem")


@pytest.fixture
async def shop(database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    (tmp_path / ".dev").mkdir()
    certificates = certificates_in(tmp_path / ".dev")
    async with running_process(database.application_url, tmp_path, door=door_of(certificates)) as process:
        made = Shop(tmp_path, process)
        passengers = asyncio.create_task(made.pay_whatever_is_asked_for())
        yield made
        passengers.cancel()
        await asyncio.gather(passengers, return_exceptions=True)


async def test_the_twenty_lines_take_a_payment(shop: Shop) -> None:
    shop.write("pay.py")
    assert "Confirm the seat; receipt SJ00000001" in await shop.run("pay.py")
    # Another purchase for the same booking, which is paid.
    assert "Please do not pay again." in await shop.run("pay.py")


def test_they_are_no_more_than_twenty() -> None:
    lines = [line for line in SNIPPETS["pay.py"].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= LINES_OF_THE_TEAMS_OWN


async def test_the_consumer_confirms_the_seat(shop: Shop, empty_database: tuple[EmbeddedServer, str]) -> None:
    url = sa.make_url(empty_database[1]).set(drivername="postgresql+psycopg")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE bookings (booking_id text, state text, receipt text)"))
        await connection.execute(sa.text("INSERT INTO bookings VALUES ('TRIP-7', 'HELD')"))
    own = {"postgresql+psycopg://localhost/booking": url.render_as_string(hide_password=False)}
    shop.write("confirm_seats.py", **own)
    async with shop.running("confirm_seats.py"):
        async with PaymentsClient(str(shop.process.server.address), tls=shop.process_files()) as payments:
            await payments.initiate(a_purchase("TRIP-7"), timeout=PATIENCE_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with engine.connect() as connection:
                    row = (await connection.execute(sa.text("SELECT state, receipt FROM bookings"))).one()
                if row.state == "CONFIRMED":
                    break
                await asyncio.sleep(0.05)
    assert row.receipt == "SJ00000001"
    await engine.dispose()


async def test_the_command_of_a_django_shop_confirms_the_seat(shop: Shop) -> None:
    shop.write("settings.py", SETTINGS)
    shop.write("shop/models.py", MODELS)
    for folder in ("shop", "shop/management", "shop/management/commands"):
        shop.write(f"{folder}/__init__.py", "\n")
    shop.write("shop/management/commands/confirm_seats.py")
    await shop.run("-m", "django", "migrate", "--run-syncdb")
    book = "from shop.models import Booking; "
    await shop.run("-m", "django", "shell", "--no-imports", "-c", f"{book}Booking.objects.create(booking_id='TRIP-7')")
    look = f"{book}print('it is', Booking.objects.get().state)"
    async with shop.running("-m", "django", "confirm_seats"):
        async with PaymentsClient(str(shop.process.server.address), tls=shop.process_files()) as payments:
            await payments.initiate(a_purchase("TRIP-7"), timeout=PATIENCE_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "it is CONFIRMED" not in await shop.run("-m", "django", "shell", "--no-imports", "-c", look):
                await asyncio.sleep(0.1)


async def test_the_tests_of_the_page_pass(shop: Shop) -> None:
    shop.write("test_booking.py")
    output = await shop.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_booking.py")
    assert "2 passed" in output


async def test_a_receipt_is_handed_out_once_the_money_is_here(tmp_path: Path) -> None:
    (tmp_path / "hand_out_receipt.py").write_text(SNIPPETS["hand_out_receipt.py"], encoding="utf-8")
    hand_out = runpy.run_path(str(tmp_path / "hand_out_receipt.py"))["hand_out"]
    pdf, number = tmp_path / "receipt.pdf", ""
    with FakePayments(issues_receipts=True) as fake:
        fake.script(Outcome.IS_NOT_SENT)
        async with fake.client() as client:
            payment = (await client.initiate(a_purchase())).payment
            assert await hand_out(client, payment.payment_id, pdf) == "Your receipt comes with the money."
            fake.send(payment.payment_id)
            fake.happens(payment.payment_id, Outcome.PAYS)
            assert (await hand_out(client, payment.payment_id, pdf)).endswith("revision 1")
            number = (await client.get_receipt(payment.payment_id)).receipt.receipt_number
            assert await hand_out(client, payment.payment_id, pdf) == f"Receipt {number}, revision 1"
            assert number in PdfReader(pdf).pages[0].extract_text()
            await client.refund(payment.payment_id, RefundReason.REFUND_REASON_CANNOT_DELIVER)
            fake.refund_done(payment.payment_id)
            fake.advance(timedelta(seconds=1))
            assert await hand_out(client, payment.payment_id, pdf) == f"Receipt {number}, revision 2"
            assert "KES 500, REFUNDED; left: KES 0" in PdfReader(pdf).pages[0].extract_text()
    with FakePayments() as fake:
        async with fake.client() as client:
            payment = await client.pay_and_wait(a_purchase())
            assert await hand_out(client, payment.payment_id, pdf) == "There is no receipt."


def test_every_snippet_is_tried() -> None:
    tried = {"pay.py", "confirm_seats.py", "shop/management/commands/confirm_seats.py", "test_booking.py"}
    assert set(SNIPPETS) == tried | {"hand_out_receipt.py"}
