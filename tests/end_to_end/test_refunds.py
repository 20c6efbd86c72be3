"""A refund through the programs that are shipped, one of which dies while its request is at M-Pesa."""

from __future__ import annotations

from typing import Any

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import find_free_port
from development.slowness import slowness
from tests.end_to_end.town import Grounds, a_phone, action_of, initiate, payment_when, status_of, until
from tests.parts import channel
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of

pytestmark = pytest.mark.slow

PUSH_TIMEOUT_SECONDS = 5.0 * slowness()


async def test_a_process_that_dies_while_its_refund_is_at_mpesa_returns_the_money_once(grounds: Grounds) -> None:
    """Killed between the request and its answer; the result is lost as well. Another process asks, and never sends."""
    certificate = grounds.site.folder / "certificate.pem"
    certificate.write_text((await grounds.simulator.http.get("/control/certificate")).json()["certificate"])
    settings: dict[str, Any] = {
        "initiator_name": "development-initiator",
        "initiator_password": "development-initiator-password",
        "initiator_certificate_file": certificate,
        "push_timeout_s": PUSH_TIMEOUT_SECONDS,
        "lease_s": PUSH_TIMEOUT_SECONDS + 3,
    }
    phone, address = a_phone(), f"127.0.0.1:{find_free_port()}"

    async def order() -> dict[str, Any] | None:
        shown = await grounds.simulator.http.get("/control/orders", params={"phone": phone})
        return next(iter(shown.json()["orders"]), None)

    async with grounds.site.running_gateway(address, grounds.edge_address):
        async with grounds.site.running_core(address, **settings) as core, channel(address) as client:
            payments = PaymentServiceStub(client)
            started = await initiate(payments, phone)
            payment_id = started.payment.payment_id
            await payment_when(payments, payment_id, lambda found: bool(found.mpesa_receipt_number), "the receipt")
            await grounds.simulator.control(f"phones/{phone}/orders", answer_delay_seconds=600, result="never")
            await payments.RefundPayment(
                pb.RefundPaymentRequest(
                    request_id="r-1", payment_id=payment_id, reason=payment_pb2.REFUND_REASON_CANNOT_DELIVER
                ),
                timeout=PATIENCE_SECONDS,
            )
            await until(order, "the order at M-Pesa")
            await core.kill()
        async with grounds.site.running_core(address, **settings), channel(address) as client:
            payments = PaymentServiceStub(client)
            refunded = await payment_when(
                payments, payment_id, lambda found: status_of(found) == "REFUNDED", "the end of the refund"
            )
    assert (action_of(refunded), refunded.refunded_amount.units) == ("RELEASE", 500)
    shown = (await grounds.simulator.http.get("/control/orders", params={"phone": phone})).json()
    assert (shown["totals"]["orders"], shown["totals"]["sent_kes"]) == (1, 500)
    states = await rows_of(grounds.database, "SELECT state, result_code FROM refunds")
    assert states == [("DONE", "R000001")]
    assert await grounds.cases(refunded) == []
