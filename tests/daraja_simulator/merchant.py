"""The other side of a simulated Daraja: a merchant that pushes, queries, controls, and receives callbacks."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from tests.daraja_simulator.simulators import until

KEY_AND_SECRET = "development-consumer-key:development-consumer-secret"
# Safaricom's public sandbox pair, and the development passkey of the other shortcodes.
PASSKEYS = {
    "174379": "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919",
    "600998": "development-passkey",
    "600584": "development-passkey",
}
PHONES = itertools.count(254_722_000_000)


def new_phone() -> str:
    """A number that pays, of this test's own."""
    return str(next(PHONES))


@dataclass(frozen=True, slots=True)
class Received:
    """One callback as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def result(self) -> dict[str, Any]:
        inner: dict[str, Any] = json.loads(self.body)["Body"]["stkCallback"]
        return inner

    @property
    def status(self) -> dict[str, Any]:
        """The Result of a request that is told later."""
        inner: dict[str, Any] = json.loads(self.body)["Result"]
        return inner

    @property
    def parameters(self) -> dict[str, Any]:
        return {pair["Key"]: pair.get("Value") for pair in self.status["ResultParameters"]["ResultParameter"]}

    @property
    def items(self) -> dict[str, Any]:
        return {item["Name"]: item.get("Value") for item in self.result["CallbackMetadata"]["Item"]}


@dataclass(slots=True)
class Merchant:
    """A merchant with its callback address; `answer_status` is what it answers to callbacks."""

    url: str
    callback_url: str
    session: aiohttp.ClientSession
    received: list[Received] = field(default_factory=list)
    token: str = ""
    answer_status: int = 200

    async def new_token(self) -> str:
        status, body = await self.get_token()
        assert status == 200, body
        self.token = json.loads(body)["access_token"]
        return self.token

    async def get_token(
        self, credentials: str = KEY_AND_SECRET, grant: str = "client_credentials"
    ) -> tuple[int, bytes]:
        basic = base64.b64encode(credentials.encode()).decode()
        url = f"{self.url}/oauth/v1/generate?grant_type={grant}"
        async with self.session.get(url, headers={"Authorization": f"Basic {basic}"}) as answer:
            return answer.status, await answer.read()

    def fields(self, phone: str, **changes: Any) -> dict[str, Any]:
        """A correct push, with fields changed; None leaves a field out."""
        shortcode = str(changes.get("BusinessShortCode", "174379"))
        stamp = changes.get("Timestamp", nairobi_now())
        fields: dict[str, Any] = {
            "BusinessShortCode": shortcode,
            "Password": password(shortcode, stamp),
            "Timestamp": stamp,
            "TransactionType": "CustomerPayBillOnline",
            "Amount": 150,
            "PartyA": phone,
            "PartyB": shortcode,
            "PhoneNumber": phone,
            "CallBackURL": f"{self.callback_url}/callbacks/stk/r/t",
            "AccountReference": "SEAT12",
            "TransactionDesc": "Bus fare",
        }
        fields.update(changes)
        return {name: value for name, value in fields.items() if value is not None}

    async def push(self, phone: str, **changes: Any) -> tuple[int, dict[str, Any]]:
        status, body = await self.post("/mpesa/stkpush/v1/processrequest", self.fields(phone, **changes))
        return status, json.loads(body)

    async def query(self, checkout_request_id: str) -> tuple[int, dict[str, Any]]:
        stamp = nairobi_now()
        fields = {
            "BusinessShortCode": "174379",
            "Password": password("174379", stamp),
            "Timestamp": stamp,
            "CheckoutRequestID": checkout_request_id,
        }
        status, body = await self.post("/mpesa/stkpushquery/v1/query", fields)
        return status, json.loads(body)

    async def ask_status(self, receipt: str | None, **changes: Any) -> tuple[int, dict[str, Any]]:
        """A correct status query for a receipt, with fields changed; None leaves a field out."""
        fields: dict[str, Any] = {
            "Initiator": "development-initiator",
            "SecurityCredential": await self.credential(),
            "CommandID": "TransactionStatusQuery",
            "TransactionID": receipt,
            "PartyA": "174379",
            "IdentifierType": "4",
            "ResultURL": f"{self.callback_url}/result",
            "QueueTimeOutURL": f"{self.callback_url}/timeout",
            "Remarks": "Check",
            "Occasion": "Sweep",
        }
        fields.update(changes)
        sent = {name: value for name, value in fields.items() if value is not None}
        status, body = await self.post("/mpesa/transactionstatus/v1/query", sent)
        return status, json.loads(body)

    async def reverse(self, receipt: str, amount: int = 150, **changes: Any) -> tuple[int, dict[str, Any]]:
        """A correct reversal of a payment, with fields changed; None leaves a field out."""
        status, body = await self.post("/mpesa/reversal/v1/request", await self.reversal(receipt, amount, **changes))
        return status, json.loads(body)

    async def reversal(self, receipt: str, amount: int = 150, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "Initiator": "development-initiator",
            "SecurityCredential": await self.credential(),
            "CommandID": "TransactionReversal",
            "TransactionID": receipt,
            "Amount": amount,
            "ReceiverParty": "174379",
            "RecieverIdentifierType": "11",
            "ResultURL": f"{self.callback_url}/result",
            "QueueTimeOutURL": f"{self.callback_url}/timeout",
            "Remarks": "Refund",
        }
        fields.update(changes)
        return {name: value for name, value in fields.items() if value is not None}

    async def pay_out(self, name: str, phone: str, amount: int = 150, **changes: Any) -> tuple[int, dict[str, Any]]:
        """A correct B2C payment under a name, with fields changed; None leaves a field out."""
        fields: dict[str, Any] = {
            "OriginatorConversationID": name,
            "InitiatorName": "development-initiator",
            "SecurityCredential": await self.credential(),
            "CommandID": "BusinessPayment",
            "Amount": amount,
            "PartyA": "174379",
            "PartyB": phone,
            "Remarks": "Refund",
            "QueueTimeOutURL": f"{self.callback_url}/timeout",
            "ResultURL": f"{self.callback_url}/result",
            "Occassion": "Part",
        }
        fields.update(changes)
        sent = {name: value for name, value in fields.items() if value is not None}
        status, body = await self.post("/mpesa/b2c/v3/paymentrequest", sent)
        return status, json.loads(body)

    async def ask_balance(self, **changes: Any) -> tuple[int, dict[str, Any]]:
        """A correct question for the balance, with fields changed; None leaves a field out."""
        fields: dict[str, Any] = {
            "Initiator": "development-initiator",
            "SecurityCredential": await self.credential(),
            "CommandID": "AccountBalance",
            "PartyA": "174379",
            "IdentifierType": "4",
            "Remarks": "Balance",
            "QueueTimeOutURL": f"{self.callback_url}/timeout",
            "ResultURL": f"{self.callback_url}/result",
        }
        fields.update(changes)
        sent = {name: value for name, value in fields.items() if value is not None}
        status, body = await self.post("/mpesa/accountbalance/v1/query", sent)
        return status, json.loads(body)

    async def orders(self, **narrowed: str) -> list[dict[str, Any]]:
        """The orders to send money that the simulator has read."""
        async with self.session.get(f"{self.url}/control/orders", params=narrowed) as answer:
            content: dict[str, Any] = await answer.json()
            assert content["totals"]["orders"] == len(content["orders"])
            listed: list[dict[str, Any]] = content["orders"]
            return listed

    async def account(self, phone: str) -> dict[str, Any]:
        """What a phone paid and had back."""
        phones = (await self.control(f"debits?phone={phone}", method="GET"))["phones"]
        nothing: dict[str, Any] = {"debited_kes": 0, "debits": [], "returned_kes": 0, "returns": []}
        account: dict[str, Any] = phones.get(phone, nothing)
        return account

    async def balance(self) -> int:
        return int((await self.control("balance", method="GET"))["shortcodes"]["174379"])

    async def credential(self, password: str = "development-initiator-password") -> str:
        """The initiator's password, encrypted for the simulator's certificate."""
        pem = (await self.control("certificate", method="GET"))["certificate"]
        key = load_pem_x509_certificate(pem.encode()).public_key()
        assert isinstance(key, RSAPublicKey)
        return base64.b64encode(key.encrypt(password.encode(), PKCS1v15())).decode()

    async def register_pull(self, **changes: Any) -> tuple[int, dict[str, Any]]:
        fields = {
            "ShortCode": "174379",
            "RequestType": "Pull",
            "NominatedNumber": "0722000000",
            "CallBackURL": f"{self.callback_url}/pulled",
        }
        status, body = await self.post("/pulltransactions/v1/register", fields | changes)
        return status, json.loads(body)

    async def pull(self, **changes: Any) -> tuple[int, dict[str, Any]]:
        """A pull of the last day, with fields changed."""
        fields = {
            "ShortCode": "174379",
            "StartDate": nairobi_text(-24),
            "EndDate": nairobi_text(1),
            "OffSetValue": "0",
        }
        status, body = await self.post("/pulltransactions/v1/query", fields | changes)
        return status, json.loads(body)

    async def post(self, path: str, fields: Any, **options: Any) -> tuple[int, bytes]:
        if not self.token:
            await self.new_token()
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.post(self.url + path, json=fields, headers=headers, **options) as answer:
            return answer.status, await answer.read()

    async def control(self, path: str, body: Any = None, method: str = "POST") -> dict[str, Any]:
        async with self.session.request(method, f"{self.url}/control/{path}", json=body) as answer:
            content: dict[str, Any] = await answer.json()
            assert answer.status == 200, content
            return content

    async def script(self, phone: str, **behaviour: Any) -> None:
        await self.control(f"phones/{phone}/script", behaviour)

    async def ledger(self, **narrowed: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/control/ledger", params=narrowed) as answer:
            content: dict[str, Any] = await answer.json()
            return content

    async def callbacks(self, count: int) -> list[Received]:
        await until(lambda: len(self.received) >= count)
        return self.received


def nairobi_now(offset_hours: int = 3) -> str:
    return (datetime.now(UTC) + timedelta(hours=offset_hours)).strftime("%Y%m%d%H%M%S")


def nairobi_text(hours_from_now: float) -> str:
    """A moment as a pull names it."""
    return (datetime.now(UTC) + timedelta(hours=3 + hours_from_now)).strftime("%Y-%m-%d %H:%M:%S")


def password(shortcode: str, stamp: str) -> str:
    return base64.b64encode(f"{shortcode}{PASSKEYS.get(shortcode, 'none')}{stamp}".encode()).decode()


@asynccontextmanager
async def merchant_of(url: str) -> AsyncIterator[Merchant]:
    """A merchant of the simulator at url, receiving callbacks on a port of its own."""
    async with aiohttp.ClientSession() as session:
        merchant = Merchant(url, "", session)

        async def receive(request: web.Request) -> web.Response:
            body = await request.read()
            merchant.received.append(Received(request.path, dict(request.headers), body, time.time()))
            return web.json_response({"ResultCode": 0, "ResultDesc": "Accepted"}, status=merchant.answer_status)

        app = web.Application()
        app.router.add_post("/{path:.*}", receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            merchant.callback_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield merchant
        finally:
            await runner.cleanup()
