"""Who calls, what a caller may use, and whose payments it sees.

Over TLS a caller is who its certificate says: exactly one SPIFFE URI, and that one on the list of callers. Whoever
shows a certificate that names nobody, or two, or somebody who is not on the list, may do nothing. A connection in
plaintext proves nothing about who is at its other end, so it is served on this machine's loopback only, where everybody
is the caller `development`. Each method has a row in one table, and a server whose table lacks one does not start.
"""

import json
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from opentelemetry import metrics
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from payment_service.rpc.caller_limits import CallerLimits
from payment_service.rpc.errors import CallerNotAllowed
from runtime.serving import Address, StartRefused
from runtime.tls import FollowedFiles

Context = grpc.aio.ServicerContext[Any, Any]
AuthContext = Mapping[str, Iterable[bytes]]

TLS_VERSION: Final = (b"TLSv1.3",)
CERTIFICATES_KEPT: Final = 1_024
REFUSALS_TOLD_EVERY: Final = timedelta(minutes=1)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_CALLER_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")


_log = structlog.get_logger(__name__)
_meter = metrics.get_meter("payment_service")
_refused = _meter.create_counter("payment_service.calls.refused", description="Calls that the door refused, by why")


class Party(StrEnum):
    """Who uses a method."""

    BOOKING = "BOOKING"
    """Services that take payments and follow their own."""
    NOTIFICATION = "NOTIFICATION"
    """Services that tell passengers what became of their money, whoever asked for it."""
    GATEWAY = "GATEWAY"
    """The edge that takes Safaricom's callbacks, and lets passengers see their payments by a token."""
    OPERATOR = "OPERATOR"
    """People who settle cases, by the command line. Each is who their certificate names."""
    DESK = "DESK"
    """The program at whose pages people settle cases. It says which of them acts, and is believed."""


class Sees(StrEnum):
    """Whose payments a party sees through a method."""

    OWN = "OWN"
    """Those that the caller itself has asked for. Another's looks like one that does not exist."""
    ALL = "ALL"
    """Everybody's; or the method is about no payment."""


_PAYMENTS = "mpesa_payments.v1.PaymentService"
_CALLBACKS = "mpesa_payments.v1.CallbackService"
_PASSENGERS = "mpesa_payments.v1.PassengerService"
_OPERATIONS = "mpesa_payments.v1.OperationsService"

_BOOKING = {Party.BOOKING: Sees.OWN}
_READERS = {Party.BOOKING: Sees.OWN, Party.NOTIFICATION: Sees.ALL, Party.OPERATOR: Sees.ALL}
_CONSUMERS = {Party.BOOKING: Sees.OWN, Party.NOTIFICATION: Sees.ALL}
_GATEWAY = {Party.GATEWAY: Sees.ALL}
_OPERATOR = {Party.OPERATOR: Sees.ALL}
_PEOPLE = {Party.OPERATOR: Sees.ALL, Party.DESK: Sees.ALL}
_EVERY_CALLER = dict.fromkeys(Party, Sees.ALL)

RULES: Mapping[str, Mapping[Party, Sees]] = {
    f"{_PAYMENTS}/InitiatePayment": _BOOKING,
    f"{_PAYMENTS}/RetryPayment": _BOOKING,
    f"{_PAYMENTS}/CancelPayment": _BOOKING,
    f"{_PAYMENTS}/RefundPayment": _BOOKING,
    f"{_PAYMENTS}/GetPayment": _READERS,
    f"{_PAYMENTS}/ListPayments": _READERS,
    f"{_PAYMENTS}/WatchPayment": _READERS,
    f"{_PAYMENTS}/WatchPayments": _READERS,
    f"{_PAYMENTS}/AcknowledgeEvents": _CONSUMERS,
    f"{_PAYMENTS}/GetReceipt": _READERS,
    f"{_PAYMENTS}/AttachTaxInvoice": _BOOKING,
    f"{_CALLBACKS}/SubmitCallbacks": _GATEWAY,
    f"{_CALLBACKS}/SubmitHint": _GATEWAY,
    f"{_CALLBACKS}/CheckCallbackKeys": _GATEWAY,
    f"{_PASSENGERS}/GetPassengerPayment": _GATEWAY,
    f"{_PASSENGERS}/WatchPassengerPayment": _GATEWAY,
    f"{_PASSENGERS}/VerifyReceipt": _GATEWAY,
    f"{_OPERATIONS}/ListCases": _PEOPLE,
    f"{_OPERATIONS}/GetCase": _PEOPLE,
    f"{_OPERATIONS}/TakeCase": _PEOPLE,
    f"{_OPERATIONS}/ResolveCase": _PEOPLE,
    f"{_OPERATIONS}/FindPayments": _PEOPLE,
    f"{_OPERATIONS}/ExplainPayment": _PEOPLE,
    f"{_OPERATIONS}/GetPromptSwitch": _OPERATOR,
    f"{_OPERATIONS}/TurnPromptSwitch": _OPERATOR,
    f"{_OPERATIONS}/RefundBooking": _OPERATOR,
    f"{_OPERATIONS}/GetFloat": _OPERATOR,
    f"{_OPERATIONS}/ListApprovals": _PEOPLE,
    f"{_OPERATIONS}/GetApproval": _PEOPLE,
    f"{_OPERATIONS}/DecideApproval": _PEOPLE,
    f"{_OPERATIONS}/GetRisk": _OPERATOR,
    f"{_OPERATIONS}/ListPhone": _OPERATOR,
    f"{_OPERATIONS}/ListConsumers": _OPERATOR,
    f"{_OPERATIONS}/RewindConsumer": _OPERATOR,
    f"{_OPERATIONS}/ForgetConsumer": _OPERATOR,
    f"{_OPERATIONS}/ExportPerson": _OPERATOR,
    f"{_OPERATIONS}/ErasePerson": _OPERATOR,
    f"{health.SERVICE_NAME}/Check": _EVERY_CALLER,
    f"{health.SERVICE_NAME}/Watch": _EVERY_CALLER,
    f"{reflection.SERVICE_NAME}/ServerReflectionInfo": _EVERY_CALLER,
}
"""Which parties may use a method, and whose payments each sees; a party that is not listed is refused."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller, by the name under which its payments are kept."""

    name: str
    parties: frozenset[Party]
    limits: CallerLimits | None = None
    """None only where nobody can be told from another."""


DEVELOPMENT: Final = Caller("development", frozenset(Party))
"""Everybody on a loopback without TLS."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A caller that may use the method."""

    name: str
    sees: str | None
    """The caller whose payments it sees; None where it sees everybody's."""
    limits: CallerLimits | None = None
    names_person: bool = False
    """Whether who acts is whom the call names in `operator`, not who makes it."""


def _here() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Refusals:
    """Tells operators whom the door refused: every refusal is counted, and of each reason one line a minute is logged.

    So a stranger who calls a thousand times a second does not fill the log.
    """

    told_at: dict[str, datetime] = field(default_factory=dict)
    untold: Counter[str] = field(default_factory=Counter)

    def tell(self, method: str, refusal: CallerNotAllowed, now: datetime) -> None:
        """Count a refusal, and log it unless one for the same reason was logged within the last minute."""
        why = str(refusal)
        _refused.add(1, {"why": why})
        self.untold[why] += 1
        if now - self.told_at.get(why, _LONG_AGO) < REFUSALS_TOLD_EVERY:
            return
        self.told_at[why] = now
        _log.warning("caller refused", why=why, who=refusal.who, method=method, refusals=self.untold.pop(why))


@dataclass(frozen=True, slots=True)
class Door:
    """How calls come in: over TLS, from those on the list; or, without credentials, in plaintext from this machine."""

    certificate: FollowedFiles | None
    """What the service shows. None is a door in plaintext."""
    callers: Mapping[str, Caller]
    """By SPIFFE URI."""
    now: Callable[[], datetime] = _here
    """This machine's clock, by which gRPC judges certificates too."""
    refusals: Refusals = field(default_factory=Refusals)

    def allowed(self, method: str, context: Context) -> Allowed:
        """Whoever makes this call, or CallerNotAllowed."""
        return self.allowed_on(method, context.auth_context() if self.certificate is not None else {})

    def allowed_on(self, method: str, connection: AuthContext) -> Allowed:
        """Whoever is at the other end of a connection, if it may use the method; else CallerNotAllowed."""
        if self.certificate is None:
            return allowed(method, DEVELOPMENT)
        now = self.now()
        try:
            return allowed(method, caller_named_by(connection, self.callers, now))
        except CallerNotAllowed as refusal:
            self.refusals.tell(method, refusal, now)
            raise


PLAINTEXT: Final = Door(None, {})


class PlaintextRefused(StartRefused):
    """The address would offer plaintext to other machines."""

    def __init__(self, address: Address) -> None:
        super().__init__(
            f"{address} can be reached from other machines, and this server speaks plaintext: "
            "choose an address of the loopback, such as 127.0.0.1:50051, or serve with certificates."
        )


class RuleMissing(StartRefused):
    """A method has no rule."""

    def __init__(self, methods: Collection[str]) -> None:
        super().__init__(f"No rule says who may call {', '.join(sorted(methods))}: add one to rpc/identity.py.")


def check_address(address: Address, door: Door) -> None:
    """Raise PlaintextRefused for plaintext at an address that is not on the loopback."""
    if door.certificate is None and not address.is_loopback:
        raise PlaintextRefused(address)


def check_rules(methods: Collection[str]) -> None:
    """Raise RuleMissing for methods without a rule."""
    missing = [method for method in methods if method not in RULES]
    if missing:
        raise RuleMissing(missing)


def caller_named_by(connection: AuthContext, callers: Mapping[str, Caller], now: datetime) -> Caller:
    """The caller whom the certificate of a connection names, or CallerNotAllowed, which says what is wrong with it."""
    if tuple(connection.get("ssl_tls_version", ())) != TLS_VERSION:
        raise CallerNotAllowed("The connection does not speak TLS 1.3.")
    # gRPC hands out the URIs as well, but cuts each off at a NUL byte: so they are read from the certificate itself.
    pems = tuple(connection.get("x509_pem_cert", ()))
    shown = _certificate(pems[0]) if len(pems) == 1 else None
    if shown is None or len(shown.uris) != 1 or not shown.uris[0].startswith("spiffe://"):
        raise CallerNotAllowed("Your certificate has to name you by exactly one URI, which begins with spiffe://.")
    # Looked at when the connection was made, which may be long ago; a resumed session is not looked at again.
    if now > shown.ends:
        raise CallerNotAllowed("Your certificate has expired: connect with a new one.", shown.uris[0])
    caller = callers.get(shown.uris[0])
    if caller is None:
        raise CallerNotAllowed(
            "The SPIFFE URI in your certificate is not on this service's list of callers.", shown.uris[0]
        )
    return caller


def allowed(method: str, caller: Caller) -> Allowed:
    """The caller as one that may use the method, or CallerNotAllowed."""
    rule = RULES.get(method, {})
    granted = [rule[party] for party in caller.parties if party in rule]
    if not granted:
        raise CallerNotAllowed(who=caller.name)
    # Who is several parties at once is told the least that one of them is.
    # For the same reason only one that is a desk and nothing else names persons.
    is_desk = caller.parties == {Party.DESK}
    return Allowed(caller.name, caller.name if Sees.OWN in granted else None, caller.limits, is_desk)


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What is asked of a caller's certificate."""

    uris: tuple[str, ...]
    ends: datetime


@lru_cache(maxsize=CERTIFICATES_KEPT)
def _certificate(pem: bytes) -> _Certificate | None:
    """Read once for all calls of a connection; None where its names cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return _Certificate(tuple(uris), certificate.not_valid_after_utc)


class _CallerEntry(BaseModel):
    """One caller of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    spiffe_id: str
    party: Party
    limits: CallerLimits = CallerLimits()


def load_callers(path: Path) -> Mapping[str, Caller]:
    """The callers by SPIFFE URI, or StartRefused. Several URIs may name one caller."""
    try:
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise _unusable(path, "others may write it, and so become callers; chmod go-w it")
        entries = TypeAdapter(list[_CallerEntry]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, detail["loc"])) or "it is no list" for detail in error.errors())
        raise _unusable(path, f"wrong or missing: {wrong}") from None
    except (OSError, ValueError) as error:
        raise _unusable(path, error.strerror or "" if isinstance(error, OSError) else "it is no JSON") from None
    callers: dict[str, Caller] = {}
    for entry in entries:
        if not _CALLER_NAME.fullmatch(entry.name):
            raise _unusable(path, f"the name {entry.name!r} is not made of 1 to 40 small letters, digits, - and _")
        if not _SPIFFE_ID.fullmatch(entry.spiffe_id):
            raise _unusable(path, f"{entry.spiffe_id!r} is no SPIFFE URI such as spiffe://example.org/booking")
        if entry.spiffe_id in callers:
            raise _unusable(path, f"{entry.spiffe_id} stands there twice")
        if any(other.name == entry.name and other.parties != {entry.party} for other in callers.values()):
            raise _unusable(path, f"{entry.name} is two parties at once")
        if any(other.name == entry.name and other.limits != entry.limits for other in callers.values()):
            raise _unusable(path, f"{entry.name} has different limits under different SPIFFE URIs")
        callers[entry.spiffe_id] = Caller(entry.name, frozenset({entry.party}), entry.limits)
    if not callers:
        raise _unusable(path, "it lists nobody")
    return callers


def _unusable(path: Path, why: str) -> StartRefused:
    parties = ", ".join(Party)
    return StartRefused(
        f"PAYMENTS_CALLERS_FILE names {path}, which is no usable list of callers: {why}. Expected a JSON list of"
        f" objects with name, spiffe_id and party ({parties}), and limits where the usual ones do not fit."
    )
