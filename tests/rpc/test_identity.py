"""Who may call: every method against every kind of stranger, and what each caller sees of another's payments.

One service for the whole module, with real TLS. A stranger is refused before anything of it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from grpc._cython.cygrpc import SSLSessionCacheLRU  # type: ignore[import-not-found]  # compiled, without stubs
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_pb2 import PAYMENT_STATUS_PENDING, REFUND_REASON_CANNOT_DELIVER
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from structlog.testing import capture_logs

from development.certificates import (
    AUTHORITY,
    BOOKING,
    CALLERS,
    NOTIFICATION,
    OPERATOR,
    SERVICE,
    VALID_FOR,
    Certificates,
    new_authority,
    signed,
    spiffe_id,
)
from development.postgres import create_database, drop_database
from development.system import channel_to
from payment_service.domain.payment import Payment
from payment_service.rpc.calls import Limits
from payment_service.rpc.errors import CallerNotAllowed
from payment_service.rpc.identity import RULES, Party, Refusals, Sees, caller_named_by, load_callers
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import StartRefused
from runtime.tls import TlsContent
from tests.application.following.reading import events_until, next_of, rest_of
from tests.certificates import (
    AGENCY,
    LONG_AGO,
    authority_of,
    certificates_in,
    channel_showing,
    door_of,
    shown_by,
    write_over,
)
from tests.databases import APPLICATION_ROLE, NEWEST_POSTGRES, TEMPLATE, Database, PostgresServers
from tests.patience import PATIENCE_SECONDS
from tests.rpc.answers import refusal_of, refused
from tests.rpc.processes import Process, paid, running_process, sent
from tests.rpc.test_methods import a_message

METHODS = sorted(RULES)
STRANGER = "spiffe://development.local/stranger"
B = '{"name": "b", "spiffe_id": "spiffe://example.org/b", "party": "BOOKING"}'
B_TOO = '{"name": "b", "spiffe_id": "spiffe://example.org/c", "party": "OPERATOR"}'
ALSO_C = '{"name": "c", "spiffe_id": "spiffe://example.org/b", "party": "BOOKING"}'
READERS_OF_ALL = (NOTIFICATION, OPERATOR)
EARLIEST, LATEST = pb.WatchPaymentsRequest.POSITION_EARLIEST, pb.WatchPaymentsRequest.POSITION_LATEST


@dataclass(frozen=True)
class Secured:
    """A service with TLS, and what its callers show."""

    process: Process
    certificates: Certificates

    @property
    def address(self) -> str:
        return str(self.process.server.address)

    def channel(self, caller: str) -> grpc.aio.Channel:
        return channel_to(self.address, self.certificates, caller)

    def showing(self, shown: TlsContent | None) -> grpc.aio.Channel:
        """A channel of somebody who trusts the service, whatever that one thinks of it."""
        return channel_showing(self.address, shown, authority_of(self.certificates).pem)


@pytest.fixture(scope="module")
async def secured(
    migrated_servers: PostgresServers, application_password: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Secured]:
    folder, server = tmp_path_factory.mktemp("secured"), await migrated_servers(NEWEST_POSTGRES)
    name = f"secured_{uuid4().hex}"
    await create_database(server, name, template=TEMPLATE)
    url, certificates = server.dsn(name, APPLICATION_ROLE, application_password), certificates_in(folder)
    async with running_process(url, folder, door=door_of(certificates)) as process:
        yield Secured(process, certificates)
    await drop_database(server, name)


def strangers(secured: Secured) -> dict[str, Callable[[], grpc.aio.Channel]]:
    """Everybody who is no caller, by what is wrong."""
    ours, another = authority_of(secured.certificates), new_authority(datetime.now(UTC))
    booking = spiffe_id(BOOKING)
    return {
        "no certificate": lambda: secured.showing(None),
        "wrong authority": lambda: secured.showing(shown_by(another, booking)),
        "expired": lambda: secured.showing(shown_by(ours, booking, age=LONG_AGO)),
        "plaintext": lambda: grpc.aio.insecure_channel(secured.address, options=CLIENT_OPTIONS),
        "not on the list": lambda: secured.showing(shown_by(ours, STRANGER)),
        "two URIs": lambda: secured.showing(shown_by(ours, booking, spiffe_id(OPERATOR))),
        "a NUL byte in the URI": lambda: secured.showing(shown_by(ours, f"{booking}\0.example.org")),
        "a certificate for servers": lambda: secured.showing(shown_by(ours, booking, server=True)),
        "no URI": lambda: secured.showing(shown_by(ours, "https://booking.example")),
    }


NOT_CONNECTED = ("no certificate", "wrong authority", "expired", "plaintext", "a certificate for servers")
NAMED_WRONGLY = ("not on the list", "two URIs", "a NUL byte in the URI", "no URI")


async def end_of(channel: grpc.aio.Channel, method: str, content: bytes = b"\xff") -> grpc.aio.AioRpcError:
    """How a call ends that must be refused. On the wire all kinds of calls are alike.

    Of one message, which goes out with the call: a client that streams fails to send where it has been refused already.
    """
    call = channel.unary_stream(f"/{method}", None, None)(content, timeout=PATIENCE_SECONDS)
    _, error = await rest_of(aiter(call))
    assert error is not None, f"{method} answered"
    return error


@pytest.mark.parametrize("stranger", [*NOT_CONNECTED, *NAMED_WRONGLY])
async def test_no_method_answers_a_stranger(secured: Secured, stranger: str) -> None:
    async with strangers(secured)[stranger]() as channel:
        for method in METHODS:
            error = await end_of(channel, method)
            if stranger in NOT_CONNECTED:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, (method, error)
            else:
                refusal = refusal_of(error)
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
                assert "certificate" in refusal.message


async def test_a_stranger_who_opens_a_call_and_says_nothing_is_refused_at_once(secured: Secured) -> None:
    async with strangers(secured)["not on the list"]() as channel:
        for method in METHODS:
            # Nothing is sent, and the sending is not ended.
            call = channel.stream_stream(f"/{method}", None, None)(None, timeout=PATIENCE_SECONDS)
            _, error = await rest_of(aiter(call))
            assert error is not None
            assert refusal_of(error).reason == "CALLER_NOT_ALLOWED", method


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_caller_uses_the_methods_of_its_party_and_no_other(secured: Secured, caller: str) -> None:
    async with secured.channel(caller) as channel:
        for method in METHODS:
            error = await end_of(channel, method) if "grpc." not in method else None
            allowed = error is None or refusal_of(error).reason != "CALLER_NOT_ALLOWED"
            assert allowed is (Party[caller.upper()] in RULES[method]), (method, error)


def test_what_writes_is_for_the_caller_itself_and_only_the_gateway_speaks_for_safaricom_and_passengers() -> None:
    verbs = ("InitiatePayment", "RetryPayment", "CancelPayment", "RefundPayment", "AttachTaxInvoice")
    for verb in verbs:
        assert RULES[f"mpesa_payments.v1.PaymentService/{verb}"] == {Party.BOOKING: Sees.OWN}
    assert all(rule[Party.BOOKING] is Sees.OWN for name, rule in RULES.items() if "PaymentService" in name)
    gateways = {name for name, rule in RULES.items() if Party.GATEWAY in rule and "grpc." not in name}
    speaks_for_others = {"SubmitCallbacks", "SubmitHint", "CheckCallbackKeys"}
    speaks_for_others |= {"GetPassengerPayment", "WatchPassengerPayment", "VerifyReceipt"}
    assert {name.rpartition("/")[2] for name in gateways} == speaks_for_others
    assert all(set(RULES[name]) == {Party.GATEWAY} for name in gateways)


async def test_every_caller_hears_of_the_services_health(secured: Secured) -> None:
    for caller in CALLERS:
        async with secured.channel(caller) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stranger_takes_no_place_and_watches_of_health_have_a_limit(database: Database, tmp_path: Path) -> None:
    certificates, limits = certificates_in(tmp_path), Limits(unary=0, initiate=0, callbacks=0, streams=0, probes=1)
    async with running_process(
        database.application_url, tmp_path, limits=limits, door=door_of(certificates)
    ) as process:
        secured = Secured(process, certificates)
        async with secured.showing(shown_by(authority_of(certificates), STRANGER)) as channel:
            for method in METHODS:
                assert refusal_of(await end_of(channel, method)).reason == "CALLER_NOT_ALLOWED"
        async with secured.channel(BOOKING) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await next_of(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
            error = await end_of(channel, "grpc.health.v1.Health/Watch", b"")
            assert refusal_of(error).reason == "TOO_MANY_REQUESTS"
            # A check is answered all the same.
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)


def test_a_connection_with_an_older_tls_names_nobody() -> None:
    now = datetime.now(UTC)
    shown = {"x509_pem_cert": (shown_by(new_authority(now), spiffe_id(BOOKING)).certificate,)}
    with pytest.raises(CallerNotAllowed, match=r"TLS 1\.3"):
        caller_named_by({**shown, "ssl_tls_version": (b"TLSv1.2",)}, {}, now)


async def test_a_certificate_that_expires_on_an_open_connection_names_nobody_from_then_on(
    database: Database, tmp_path: Path
) -> None:
    certificates, clock = certificates_in(tmp_path), [datetime.now(UTC)]
    door = dataclasses.replace(door_of(certificates), now=lambda: clock[0])
    async with running_process(database.application_url, tmp_path, door=door) as process:
        # The client resumes its TLS session, and gRPC verifies no certificate then.
        remembered = ("grpc.ssl_session_cache", SSLSessionCacheLRU(1))
        target = f"localhost:{process.server.address.port}"

        def connection() -> grpc.aio.Channel:
            own = certificates.content(BOOKING)
            credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
            options = (*CLIENT_OPTIONS, remembered, ("grpc.use_local_subchannel_pool", 1))
            return grpc.aio.secure_channel(target, credentials, options=options)

        async with connection() as opened:
            await PaymentServiceStub(opened).ListPayments(pb.ListPaymentsRequest(), timeout=PATIENCE_SECONDS)
            clock[0] += VALID_FOR + timedelta(days=1)
            async with connection() as resumed:
                for channel in (opened, resumed):
                    for method in METHODS:
                        refusal = refusal_of(await end_of(channel, method))
                        assert refusal.reason == "CALLER_NOT_ALLOWED"
                        assert "expired" in refusal.message


@pytest.mark.slow
async def test_whoever_connects_and_says_nothing_is_cut_off(secured: Secured) -> None:
    address = secured.process.server.address
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with contextlib.closing(writer):
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""


def test_operators_are_told_once_a_minute_who_was_refused() -> None:
    refusals, now = Refusals(), datetime.now(UTC)
    with capture_logs() as logs:
        for seconds in (0, 1, 59, 60, 61):
            refusals.tell("Service/Method", CallerNotAllowed(who=STRANGER), now + timedelta(seconds=seconds))
        refusals.tell("Service/Method", CallerNotAllowed("Another reason."), now + timedelta(seconds=61))
    told = [(line["event"], line["who"], line["refusals"]) for line in logs]
    assert told == [("caller refused", STRANGER, 1), ("caller refused", STRANGER, 3), ("caller refused", "", 1)]


def test_a_list_of_callers_that_others_may_write_is_refused(tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path)
    for mode in (0o602, 0o620):
        certificates.callers.chmod(mode)
        with pytest.raises(StartRefused, match="others may write it"):
            load_callers(certificates.callers)
    certificates.callers.chmod(0o644)
    assert load_callers(certificates.callers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("[]", "it lists nobody"),
        ('[{"name": "booking"}]', "wrong or missing: 0.spiffe_id, 0.party"),
        ('[{"name": "b", "spiffe_id": "https://b.example/b", "party": "BOOKING"}]', "is no SPIFFE URI"),
        ('[{"name": "B!", "spiffe_id": "spiffe://example.org/b", "party": "BOOKING"}]', "small letters"),
        (f"[{B}, {B_TOO}]", "b is two parties at once"),
        (f"[{B}, {ALSO_C}]", "stands there twice"),
    ],
)
def test_a_list_of_callers_that_says_nothing_clear_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "callers.json").write_text(text)
    with pytest.raises(StartRefused, match="PAYMENTS_CALLERS_FILE") as refusal:
        load_callers(tmp_path / "callers.json")
    assert said in str(refusal.value)


@pytest.mark.timeout(600)
async def test_a_caller_cannot_tell_anothers_payment_from_one_that_is_not_there(
    secured: Secured, at_length: bool, record_property: Callable[[str, object], None]
) -> None:
    """Every way to ask about one payment, for many payments of another caller and for ids that nobody has."""
    process, chance, asked = secured.process, random.Random(1), 0
    theirs = [await process.create(BOOKING, booking_id=f"BK-{n}", request_id=f"theirs-{n}") for n in range(20)]
    async with secured.channel(AGENCY) as channel:
        payments = PaymentServiceStub(channel)
        for number in chance.choices(range(20), k=1_000 if at_length else 40):
            payment = theirs[number]
            nobodys = str(uuid4())
            for ask in ways_to_ask(payments):
                told = [await refused(ask(payment_id)) for payment_id in (str(payment.payment_id), nobodys)]
                assert told[0] == told[1]
                assert told[0].reason == "PAYMENT_NOT_FOUND"
            by_reference = await refused(payments.GetPayment(pb.GetPaymentRequest(reference=payment.reference)))
            assert by_reference.reason == "PAYMENT_NOT_FOUND"
            for filters in filters_for(payment, f"theirs-{number}"):
                assert not (await payments.ListPayments(filters)).payments
            watch = payments.WatchPayment(pb.WatchPaymentRequest(booking_id=payment.booking_id))
            assert not (await next_of(aiter(watch))).snapshot.payments
            watch.cancel()
            asked += len(ways_to_ask(payments)) + 1 + len(filters_for(payment, "")) + 1
        assert not (await payments.ListPayments(pb.ListPaymentsRequest())).payments
    record_property("figure", f"{asked:,} reads and streams of another caller's payments, 0 told anything")


def ways_to_ask(payments: PaymentServiceStub) -> list[Callable[[str], Awaitable[object]]]:
    """Each by a payment's id."""
    return [
        lambda name: payments.GetPayment(pb.GetPaymentRequest(payment_id=name)),
        lambda name: payments.CancelPayment(pb.CancelPaymentRequest(request_id=uuid4().hex, payment_id=name)),
        lambda name: payments.RetryPayment(pb.RetryPaymentRequest(request_id=uuid4().hex, payment_id=name)),
        lambda name: payments.RefundPayment(
            pb.RefundPaymentRequest(request_id=uuid4().hex, payment_id=name, reason=REFUND_REASON_CANNOT_DELIVER)
        ),
        lambda name: next_of(aiter(payments.WatchPayment(pb.WatchPaymentRequest(payment_id=name)))),
    ]


def filters_for(payment: Payment, request_id: str) -> list[pb.ListPaymentsRequest]:
    return [
        pb.ListPaymentsRequest(booking_id=payment.booking_id),
        pb.ListPaymentsRequest(reference=payment.reference),
        pb.ListPaymentsRequest(request_id=request_id),
    ]


async def test_streams_tell_a_caller_of_its_own_payments_and_a_notification_service_of_all(secured: Secured) -> None:
    process = secured.process
    async with AsyncExitStack() as stack:
        watches = {}
        for caller in (BOOKING, AGENCY, NOTIFICATION, OPERATOR):
            channel = await stack.enter_async_context(secured.channel(caller))
            call = PaymentServiceStub(channel).WatchPayments(pb.WatchPaymentsRequest(position=LATEST))
            watches[caller] = aiter(call)
            assert (await next_of(watches[caller])).caught_up
        owners = [BOOKING, AGENCY, AGENCY, BOOKING, AGENCY, BOOKING]
        made = [
            (owner, await process.create(owner, booking_id=f"BS-{n}", request_id=f"stream-{n}"))
            for n, owner in enumerate(owners)
        ]
        for caller, watch in watches.items():
            due = [(str(payment.payment_id), owner) for owner, payment in made if caller in (owner, *READERS_OF_ALL)]
            seen: list[tuple[str, str]] = []
            # What comes to a watch comes in order, so anything of another caller's would stand before its last one.
            while due[-1] not in seen:
                events = (await next_of(watch)).events
                seen += [(event.payment.payment_id, event.payment.caller) for event in events]
            assert seen == due


async def test_a_list_by_status_tells_a_caller_of_its_own_payments_and_an_operator_of_all(secured: Secured) -> None:
    process, owners = secured.process, [BOOKING, AGENCY, AGENCY, BOOKING]
    made = [
        (await process.create(owner, booking_id=f"BL-{n}", request_id=f"list-{n}"), owner)
        for n, owner in enumerate(owners)
    ]
    for caller in (BOOKING, AGENCY, NOTIFICATION, OPERATOR):
        async with secured.channel(caller) as channel:
            asked = pb.ListPaymentsRequest(statuses=[PAYMENT_STATUS_PENDING], page_size=len(made))
            listed = await PaymentServiceStub(channel).ListPayments(asked)
        shown = (caller, *(owners if caller in READERS_OF_ALL else ()))
        due = [(str(payment.payment_id), owner) for payment, owner in reversed(made) if owner in shown]
        # Other tests have payments of both callers too, which are older.
        assert [(payment.payment_id, payment.caller) for payment in listed.payments][: len(due)] == due, caller


async def test_history_cursors_receipts_and_page_tokens_show_nothing_of_another_caller(secured: Secured) -> None:
    process = secured.process
    theirs = [await process.create(BOOKING, booking_id=f"BH-{n}", request_id=f"history-{n}") for n in range(3)]
    await process.tell(theirs[0], *sent(1), paid("SJ12345679"))
    own = await process.create(AGENCY, booking_id="BH-9", request_id="history-9")
    async with secured.channel(BOOKING) as others, secured.channel(AGENCY) as channel:
        booking, agency = PaymentServiceStub(others), PaymentServiceStub(channel)
        their_page = await booking.ListPayments(pb.ListPaymentsRequest(page_size=1))
        their_cursor = (await booking.GetPayment(pb.GetPaymentRequest(payment_id=str(theirs[0].payment_id)))).cursor
        await process.tell(theirs[1], *sent(2), paid("SJ12345680"))
        await process.tell(own, *sent(3), paid("SJ12345681"))
        agencys = {
            one.payment_id for one in (await agency.ListPayments(pb.ListPaymentsRequest(page_size=1000))).payments
        }
        assert str(own.payment_id) in agencys
        assert not agencys & {str(payment.payment_id) for payment in theirs}

        for start in (pb.WatchPaymentsRequest(position=EARLIEST), pb.WatchPaymentsRequest(cursor=their_cursor)):
            watch = agency.WatchPayments(start)
            seen = await events_until(
                aiter(watch), lambda events: any(one.payment.mpesa_receipt_number == "SJ12345681" for one in events)
            )
            watch.cancel()
            assert {one.payment.payment_id for one in seen} <= agencys
        filters = pb.ListPaymentsRequest(mpesa_receipt_number="SJ12345679")
        assert len((await booking.ListPayments(filters)).payments) == 1
        assert not (await agency.ListPayments(filters)).payments
        turned = pb.ListPaymentsRequest(page_size=1, page_token=their_page.next_page_token)
        assert (await booking.ListPayments(turned)).payments
        assert (await refused(agency.ListPayments(turned))).reason == "PAGE_TOKEN_INVALID"


async def test_one_request_id_of_two_callers_is_two_payments(secured: Secured) -> None:
    answers, same = [], a_message(request_id="the-same-id", booking_id="BT-1")
    for caller in (BOOKING, AGENCY):
        async with secured.channel(caller) as channel:
            answers.append(await PaymentServiceStub(channel).InitiatePayment(same))
    assert not any(answer.replayed for answer in answers)
    assert answers[0].payment.payment_id != answers[1].payment.payment_id
    async with secured.channel(NOTIFICATION) as channel:
        payments = PaymentServiceStub(channel)
        listed = await payments.ListPayments(pb.ListPaymentsRequest(request_id="the-same-id"))
        assert {one.payment_id for one in listed.payments} == {answer.payment.payment_id for answer in answers}
        for answer in answers:
            found = await payments.GetPayment(pb.GetPaymentRequest(payment_id=answer.payment.payment_id))
            assert found.payment.reference == answer.payment.reference


RENEWALS = 5


async def test_new_certificates_are_taken_under_load_and_bad_ones_are_an_alarm(
    database: Database, tmp_path: Path
) -> None:
    """Callers open connection after connection while the service's certificate is renewed again and again."""
    certificates = certificates_in(tmp_path)
    authority, going_on = authority_of(certificates), asyncio.Event()
    calls, renewed = 0, asyncio.Event()

    async def call_on_and_on(address: str) -> None:
        nonlocal calls
        while not renewed.is_set():
            async with channel_to(address, certificates, BOOKING) as channel:
                stub = PaymentServiceStub(channel)
                await stub.ListPayments(pb.ListPaymentsRequest(), timeout=PATIENCE_SECONDS)
            calls += 1
            going_on.set()

    async with running_process(database.application_url, tmp_path, door=door_of(certificates)) as process:
        address = str(process.server.address)
        async with asyncio.TaskGroup() as callers:
            for _ in range(4):
                callers.create_task(call_on_and_on(address))
            for _ in range(RENEWALS):
                going_on.clear()
                await asyncio.wait_for(going_on.wait(), PATIENCE_SECONDS)
                serial = renew(certificates)
            await asyncio.wait_for(going_on.wait(), PATIENCE_SECONDS)
            renewed.set()
        assert calls > RENEWALS
        assert await serial_shown(address, certificates) == serial

        # A key that does not fit: what was there before stays in force, and a person is told.
        write_over(certificates.key(SERVICE), shown_by(authority, spiffe_id(BOOKING)).key)
        with capture_logs() as logs:
            assert await serial_shown(address, certificates) == serial
        assert [line["alarm"] for line in logs if line["event"] == "alarm"] == ["tls_files_unusable"]

        # An authority of which nothing is left: its callers come in no more.
        serial, another = renew(certificates), new_authority(datetime.now(UTC))
        write_over(certificates.certificate(AUTHORITY), another.pem)
        shown = [shown_by(one, spiffe_id(BOOKING)) for one in (authority, another)]
        async with (
            channel_showing(address, shown[0], authority.pem) as old,
            channel_showing(address, shown[1], authority.pem) as new,
        ):
            assert (await end_of(old, METHODS[0])).code() is grpc.StatusCode.UNAVAILABLE
            await PaymentServiceStub(new).ListPayments(pb.ListPaymentsRequest(), timeout=PATIENCE_SECONDS)


def renew(certificates: Certificates) -> int:
    """A new certificate and key for the service; the serial number of the certificate."""
    earlier = x509.load_pem_x509_certificate(certificates.certificate(SERVICE).read_bytes())
    names = list(earlier.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    certificate, key = signed(authority_of(certificates), names, datetime.now(UTC), server=True)
    write_over(certificates.key(SERVICE), key)
    write_over(certificates.certificate(SERVICE), certificate)
    return x509.load_pem_x509_certificate(certificate).serial_number


async def serial_shown(address: str, certificates: Certificates) -> int:
    """Of the certificate that a new connection is offered."""
    context = ssl.create_default_context(cafile=str(certificates.certificate(AUTHORITY)))
    context.load_cert_chain(certificates.certificate(BOOKING), certificates.key(BOOKING))
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number
    finally:
        writer.close()
