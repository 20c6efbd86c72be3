"""A database with a payment of every kind in it, as the service's own writers leave them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from payment_service.application.calling.exchanges import exchange_row
from payment_service.application.recording.record_facts import Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.application.settling.accept_callbacks import (
    AcceptTools,
    CallbackOutcome,
    ReceivedCallback,
    accept_callbacks,
)
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.record_pulled_rows import PULLED
from payment_service.daraja.client import Exchange
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import (
    AnswerLost,
    DeadlinePassed,
    Fact,
    NotSent,
    PromptAccepted,
    PromptRefused,
    RefundRequested,
    ResultReported,
    SendClaimed,
    Source,
    TakenBack,
    Verdict,
    WatchEnded,
)
from payment_service.domain.payment import CancelRequest, Payment
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import RefundOrder, RefundReason, RefundRequest
from payment_service.domain.refund_facts import RefundAccepted, RefundClaimed, RefundReported, RefundVerdict
from runtime.callback_tokens import callback_token, load_callback_keys, new_reference
from runtime.key_rings import create_key_ring
from tests.writers import Writers, a_request, withdraw

CALLER = "development"
PHONE = "254712345678"


class Stories:
    """Drives payments with the writers of a process, as its parts would."""

    def __init__(self, writers: Writers, folder: Path, catching_up: CatchingUp | None = None) -> None:
        create_key_ring(folder / "callback-keys.json")
        keys = load_callback_keys(folder / "callback-keys.json")
        self.writers = writers
        self._accepting = AcceptTools(
            writers.facts, writers.sealer, keys, catching_up or CatchingUp(writers.clock, writers.times)
        )
        self._sent = 0

    async def payment(self, **changed: object) -> Payment:
        return (await self.writers.create(CALLER, a_request(**changed), None, None)).payment

    async def tell(self, payment: Payment, fact: Fact, exchange: Exchange | None = None) -> Payment:
        row = exchange_row(self.writers.sealer, exchange, payment.payment_id) if exchange else None
        recorded = await self.writers.facts.submit(Submission(fact, payment.payment_id, exchange=row))
        assert recorded.payment is not None
        return recorded.payment

    async def prompted(self, **changed: object) -> Payment:
        payment, claim = await self.payment(**changed), uuid4()
        await self.tell(payment, SendClaimed(claim))
        self._sent += 1
        accepted = PromptAccepted(claim, f"merchant-{self._sent}", f"ws_CO_{self._sent}12345678")
        return await self.tell(payment, accepted, self._push("Accepted"))

    async def unanswered(self, **changed: object) -> Payment:
        payment, claim = await self.payment(**changed), uuid4()
        await self.tell(payment, SendClaimed(claim))
        return await self.tell(payment, AnswerLost(claim), self._push("Uncertain: the answer was cut"))

    async def withdrawn(self, **changed: object) -> Payment:
        payment = await self.payment(**changed)
        for number in (1, 2):
            asked = CancelRequest(f"cancel-{number}-{payment.reference}", payment.payment_id)
            await withdraw(self.writers, CALLER, asked)
        return payment

    async def callback(
        self,
        reference: str,
        *,
        code: int = 0,
        receipt: str | None = None,
        amount: int = 500,
        received_at: datetime | None = None,
    ) -> None:
        """A callback as Safaricom would send it for a reference, with a valid token; the edge may have kept it."""
        result: dict[str, object] = {"ResultCode": code, "ResultDesc": "as the phone said"}
        if code == 0:
            items = [{"Name": "Amount", "Value": amount}, {"Name": "PhoneNumber", "Value": int(PHONE)}]
            items += [{"Name": "MpesaReceiptNumber", "Value": receipt}] if receipt else []
            result["CallbackMetadata"] = {"Item": items}
        await self.body(reference, json.dumps({"Body": {"stkCallback": result}}).encode(), received_at)

    async def pulled(self, payment: Payment, receipt: str, *, amount: int = 500, in_doubt: bool = False) -> None:
        """A row of Safaricom's books about a payment, as the reader of the books tells it."""
        row = {"transactionId": receipt, "msisdn": int(PHONE[3:]), "amount": f"{amount}.00"}
        fact = ResultReported(f"pull:{receipt}", Source.PULL, Verdict.PAID, "0", amount=amount, receipt=receipt)
        sent, now = json.dumps({"ShortCode": "174379"}).encode(), self.writers.clock()
        exchange = Exchange(PULLED, 200, sent, json.dumps(row).encode(), now, timedelta(milliseconds=80), "OURS")
        await self.tell(payment, replace(fact, in_doubt=in_doubt), exchange)

    async def taken_back(self, payment: Payment, receipt: str) -> None:
        """A row of Safaricom's books that says that a payment's money went back to its payer."""
        row = {"transactionId": receipt, "transactiontype": "organization-reversal", "amount": "500.00"}
        fact = TakenBack(f"taken-back:{receipt}", Source.PULL, receipt, 500)
        sent, now = json.dumps({"ShortCode": "174379"}).encode(), self.writers.clock()
        exchange = Exchange(PULLED, 200, sent, json.dumps(row).encode(), now, timedelta(milliseconds=80), "TAKEN_BACK")
        await self.tell(payment, fact, exchange)

    async def body(self, reference: str, body: bytes, received_at: datetime | None = None) -> None:
        token = callback_token(self._accepting.keys, "stk", reference)
        received = ReceivedCallback(
            CallbackKind.STK, reference, token, body, "196.201.214.200", received_at or self.writers.clock()
        )
        assert await accept_callbacks(self._accepting, [received]) == [CallbackOutcome.STORED]

    def _push(self, classified_as: str) -> Exchange:
        request = json.dumps({"PhoneNumber": PHONE, "PartyA": PHONE, "Password": "[blanked]", "Amount": 500})
        answer = json.dumps({"CheckoutRequestID": f"ws_CO_{self._sent}12345678", "ResponseCode": "0"})
        self.writers.clock.move(0.01)
        now, took = self.writers.clock(), timedelta(milliseconds=412)
        self.writers.clock.move(took.total_seconds())
        return Exchange("push", 200, request.encode(), answer.encode(), now, took, classified_as)


async def every_kind(stories: Stories) -> Mapping[str, Payment]:
    """One payment of each kind, by name; their rows are as they were left at the end."""
    clock, told = stories.writers.clock, {}
    told["created"] = await stories.payment()
    told["withdrawn"] = await stories.withdrawn()
    told["prompted"] = await stories.prompted()
    told["completed"] = await stories.prompted()
    await stories.callback(told["completed"].reference, receipt="RCPT000001")
    told["declined"] = await stories.prompted()
    await stories.callback(told["declined"].reference, code=1032)
    told["paid after decline"] = await stories.prompted()
    await stories.callback(told["paid after decline"].reference, code=1032)
    await stories.callback(told["paid after decline"].reference, receipt="RCPT000002")
    told["refused"] = await _refused(stories)
    told["paid twice"] = await stories.prompted()
    await stories.callback(told["paid twice"].reference, receipt="RCPT000003")
    await stories.callback(told["paid twice"].reference, receipt="RCPT000004")
    told["wrong amount"] = await stories.prompted()
    await stories.callback(told["wrong amount"].reference, receipt="RCPT000005", amount=499)
    told["foreign receipt"] = await stories.prompted()
    await stories.callback(told["foreign receipt"].reference, receipt="RCPT000001")
    told["no receipt"] = await stories.prompted()
    await stories.callback(told["no receipt"].reference)
    told["unknown code"] = await stories.prompted()
    await stories.callback(told["unknown code"].reference, code=4711)
    told["unanswered"] = await stories.unanswered()
    await stories.body(told["unanswered"].reference, b"\x1b[2J not JSON \xff")
    await stories.callback("bcdfghjknprt", receipt="RCPT000006")
    told["watched to the end"] = await stories.prompted()
    told["watched in silence"] = await stories.prompted()
    told["first of two"] = await stories.prompted(booking_id="BK-TWO")
    clock.move(121)
    for name in ("watched to the end", "watched in silence", "first of two"):
        await stories.tell(told[name], DeadlinePassed())
    clock.move(60)
    told["second of two"] = await stories.prompted(booking_id="BK-TWO")
    await stories.callback(told["second of two"].reference, receipt="RCPT000007")
    await stories.callback(told["first of two"].reference, receipt="RCPT000008")
    clock.move(48 * 3600)
    await stories.tell(told["watched to the end"], WatchEnded(books_cover=True))
    await stories.tell(told["watched in silence"], WatchEnded())
    told["in the books"] = await stories.unanswered()
    await stories.pulled(told["in the books"], "RCPT000009")
    told["taken back"] = await stories.prompted()
    await stories.callback(told["taken back"].reference, receipt="RCPT000020")
    await stories.taken_back(told["taken back"], "RCPT000021")
    told["perhaps in the books"] = await stories.unanswered()
    await stories.pulled(told["perhaps in the books"], "RCPT000010", in_doubt=True)
    told |= await _doubted(stories)
    told["confirmed by queries"] = await _confirmed_by_queries(stories)
    told["refunded"] = await _refunded(stories)
    return told


async def _doubted(stories: Stories) -> dict[str, Payment]:
    """Payments whose outcome was not certain when it was first told, or is so no more."""
    told = {}
    told["in doubt, then proven"] = await stories.prompted()
    await stories.pulled(told["in doubt, then proven"], "RCPT000011", in_doubt=True)
    await stories.callback(told["in doubt, then proven"].reference, receipt="RCPT000011")
    told["declined, as a query says"] = await stories.prompted()
    declined = ResultReported("query:declined", Source.QUERY, Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER)
    await stories.tell(told["declined, as a query says"], declined)
    told["declined, then unread"] = await stories.prompted()
    await stories.callback(told["declined, then unread"].reference, code=1032)
    await stories.body(told["declined, then unread"].reference, b"not JSON")
    told["daily limit"] = await stories.prompted()
    await stories.callback(told["daily limit"].reference, code=4)
    told["completed, then unread"] = await stories.prompted()
    await stories.callback(told["completed, then unread"].reference, receipt="RCPTUNREAD")
    await stories.body(told["completed, then unread"].reference, b"not JSON")
    return told


async def uncertain_expired_and_paid_late(stories: Stories) -> Payment:
    """The answer to the push is lost, nothing comes in time, and then the money does."""
    payment = await stories.unanswered()
    stories.writers.clock.move(30)
    await stories.callback(payment.reference, code=1037)
    stories.writers.clock.move(91)
    await stories.tell(payment, DeadlinePassed())
    stories.writers.clock.move(3600)
    await stories.callback(payment.reference, receipt="RCPT000001")
    return payment


async def _refused(stories: Stories) -> Payment:
    payment, first, second = await stories.payment(), uuid4(), uuid4()
    await stories.tell(payment, SendClaimed(first))
    await stories.tell(payment, NotSent(first, "DNS"))
    await stories.tell(payment, SendClaimed(second))
    return await stories.tell(payment, PromptRefused(second, "400.002.02", Reason.NOT_SENT))


async def _refunded(stories: Stories) -> Payment:
    """Paid, and the money has gone back by its second refund, for which an operator asked."""
    payment = await stories.prompted()
    await stories.callback(payment.reference, receipt="RCPT000012")
    # What only a callback has told of is not reversed.
    await stories.pulled(payment, "RCPT000012")
    for verdict, code, operator, why in (
        (RefundVerdict.FAILED, "1", None, None),
        (RefundVerdict.DONE, "0", "amina", "the bus broke down"),
    ):
        refund_id, claim = uuid4(), uuid4()
        asked = RefundRequest(
            f"refund-{refund_id}", payment.payment_id, RefundReason.CANNOT_DELIVER, operator=operator, why=why
        )
        order = RefundOrder(new_reference(), "174379", RefundReason.CANNOT_DELIVER, None, possible=True)
        fact = RefundRequested(refund_id, operator=operator, why=why)
        kept = KeptRequest(refund_id, CALLER, asked)
        await stories.writers.facts.submit(Submission(fact, payment.payment_id, request=kept, refund=order))
        told = RefundReported(f"callback:{refund_id}", verdict, code, "RCPT000012" if code == "0" else None)
        for about in (RefundClaimed(claim), RefundAccepted(claim, f"o-{claim}", f"AG-{claim}"), told):
            await stories.writers.facts.submit(Submission(about, payment.payment_id, refund_id=refund_id))
    return payment


async def _confirmed_by_queries(stories: Stories) -> Payment:
    payment = await stories.prompted()
    for number in (1, 2):
        said = ResultReported(f"query:{number}", Source.QUERY, Verdict.PAID, "0")
        await stories.tell(payment, said)
        stories.writers.clock.move(20)
    return payment
