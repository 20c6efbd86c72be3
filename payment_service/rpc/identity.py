"""Who calls, and what a caller may use.

A connection in plaintext proves nothing about who is at its other end, so it is
served on this machine's loopback only, where everybody is the caller
`development`. Each method has a rule in one table, and a server whose table
lacks one does not start.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from payment_service.rpc.errors import CallerNotAllowed
from runtime.serving import Address, StartRefused

DEVELOPMENT: Final = "development"


class Party(StrEnum):
    """Who uses a method."""

    BOOKING = "BOOKING"
    """Services that take payments or follow them."""
    GATEWAY = "GATEWAY"
    """The edge that takes Safaricom's callbacks."""
    OPERATOR = "OPERATOR"
    """People who settle cases, by the command line."""


_PAYMENTS = "mpesa_payments.v1.PaymentService"
_CALLBACKS = "mpesa_payments.v1.CallbackService"
_OPERATIONS = "mpesa_payments.v1.OperationsService"

RULES: Mapping[str, frozenset[Party]] = {
    f"{_PAYMENTS}/InitiatePayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/RetryPayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/CancelPayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/RefundPayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/GetPayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/ListPayments": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/WatchPayment": frozenset({Party.BOOKING}),
    f"{_PAYMENTS}/WatchPayments": frozenset({Party.BOOKING}),
    f"{_CALLBACKS}/SubmitCallbacks": frozenset({Party.GATEWAY}),
    f"{_CALLBACKS}/CheckCallbackKeys": frozenset({Party.GATEWAY}),
    f"{_OPERATIONS}/ListCases": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/GetCase": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/TakeCase": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/ResolveCase": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/FindPayments": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/GetPromptSwitch": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/TurnPromptSwitch": frozenset({Party.OPERATOR}),
    f"{_OPERATIONS}/RefundBooking": frozenset({Party.OPERATOR}),
}
"""Which parties may use a method; one that is not listed is used by nobody."""

PARTIES: Mapping[str, frozenset[Party]] = {DEVELOPMENT: frozenset(Party)}
"""What each caller is."""


class PlaintextRefused(StartRefused):
    """The address would offer plaintext to other machines."""

    def __init__(self, address: Address) -> None:
        super().__init__(
            f"{address} can be reached from other machines, and this server speaks plaintext: "
            "choose an address of the loopback, such as 127.0.0.1:50051."
        )


class RuleMissing(StartRefused):
    """A method has no rule."""

    def __init__(self, methods: Collection[str]) -> None:
        super().__init__(f"No rule says who may call {', '.join(sorted(methods))}: add one to rpc/identity.py.")


def check_address(address: Address) -> None:
    """Raise PlaintextRefused for an address that is not on the loopback."""
    if not address.is_loopback:
        raise PlaintextRefused(address)


def check_rules(methods: Collection[str]) -> None:
    """Raise RuleMissing for methods without a rule."""
    missing = [method for method in methods if method not in RULES]
    if missing:
        raise RuleMissing(missing)


def allowed_caller(method: str) -> str:
    """The caller of a method, or CallerNotAllowed."""
    if not RULES.get(method, frozenset()) & PARTIES[DEVELOPMENT]:
        raise CallerNotAllowed
    return DEVELOPMENT
