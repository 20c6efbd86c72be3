"""Two Daraja apps in one installation: whatever is asked about a payment is asked as the app of its shortcode.

Safaricom knows only the shortcodes of an app by the app's token, so a question as the wrong app learns nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import find_free_port
from tests.databases import Database
from tests.end_to_end.refunding import initiator_settings, refunded, sent_back
from tests.end_to_end.town import Grounds, Simulator, a_phone, initiate, payment_when
from tests.parts import SHORTCODES, channel, make_site, running_simulator
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of

pytestmark = pytest.mark.slow

FIRST, COAST = "174379", "600998"
SECRETS = {
    "coast-key": "coast-consumer",
    "coast-secret": "coast-consumer-secret",
    "coast-password": "development-initiator-password",
}


@pytest.fixture
async def two_apps(database: Database, tmp_path: Path) -> AsyncIterator[Grounds]:
    async with _grounds(tmp_path, database) as running:
        yield running


@asynccontextmanager
async def _grounds(folder: Path, database: Database) -> AsyncIterator[Grounds]:
    edge_address = f"127.0.0.1:{find_free_port()}"
    app = f"{COAST}={SECRETS['coast-key']}:{SECRETS['coast-secret']}"
    async with running_simulator(folder, "--latency", "none", "--callback-delay", "0.5", "--app", app) as simulator:
        url = simulator.ready["url"]
        site = make_site(folder, database.application_url, url, f"http://{edge_address}")
        async with (
            httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as control,
            httpx.AsyncClient(base_url=f"http://{edge_address}", trust_env=False) as edge,
        ):
            yield Grounds(site, database, Simulator(control), edge_address, edge)


def _list_the_coast(folder: Path) -> None:
    """A shortcode with an app of its own, whose books nobody reads."""
    for name, value in SECRETS.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o600)
    coast = {
        "number": COAST,
        "kind": "PAYBILL",
        "passkey": "development-passkey",
        "consumer_key_file": "coast-key",
        "consumer_secret_file": "coast-secret",
        "initiator_name": "development-initiator",
        "initiator_password_file": "coast-password",
        "initiator_certificate_file": "certificate.pem",
    }
    (folder / "shortcodes.json").write_text(json.dumps([*SHORTCODES, coast]))


async def test_money_is_found_proven_and_returned_as_the_app_of_its_shortcode(two_apps: Grounds) -> None:
    """The books prove the receipts of the first shortcode. Those of the other are proven by the status of each."""
    settings = await initiator_settings(two_apps)
    _list_the_coast(two_apps.site.folder)
    address, phones = f"127.0.0.1:{find_free_port()}", {FIRST: [a_phone(), a_phone()], COAST: [a_phone(), a_phone()]}
    for of_shortcode in phones.values():
        # The callback of one payment to each shortcode is lost.
        await two_apps.simulator.script(of_shortcode[1], {"callback": "never"})
    async with (
        two_apps.site.running_gateway(address, two_apps.edge_address),
        two_apps.site.running_core(address, query_after_s=1, **settings),
        channel(address) as client,
    ):
        payments = PaymentServiceStub(client)
        started = [await initiate(payments, phone, shortcode=one) for one in phones for phone in phones[one]]
        for one in started:
            await payment_when(payments, one.payment.payment_id, _confirmed, "the confirmation and the receipt")
        file = two_apps.site.folder / "bookings.csv"
        file.write_text("".join(f"{line}\n" for line in ["booking_id", *(one.payment.booking_id for one in started)]))
        report = await refunded(address, file)
        for one in started:
            await payment_when(payments, one.payment.payment_id, _refunded, "the money's return")
    floats = {one["shortcode"]: one for one in report["floats"]}
    assert set(floats) == {FIRST, COAST}
    assert [one["problem"] for one in floats.values()] == ["", ""]
    assert await sent_back(two_apps, [*phones[FIRST], *phones[COAST]]) == [500] * 4
    proven = "SELECT shortcode, array_agg(DISTINCT proven_by) FROM mpesa_receipts JOIN payment_transactions"
    assert dict(await rows_of(two_apps.database, f"{proven} USING (payment_id) GROUP BY 1")) == {
        FIRST: ["BOOKS"],
        COAST: ["STATUS"],
    }


def _confirmed(payment: payment_pb2.Payment) -> bool:
    """With the receipt, which a query does not tell and without which no money can go back."""
    confirmed = payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM
    return confirmed and bool(payment.mpesa_receipt_number)


def _refunded(payment: payment_pb2.Payment) -> bool:
    return payment.status == payment_pb2.PAYMENT_STATUS_REFUNDED
