"""How the fake refuses: with the codes and details of the service."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from payment_client.contract import payment_pb2
from payment_client.error_details import Details

# What these are about, a passenger never meets.
NOT_FOR_PASSENGERS = frozenset({"CURSOR_INVALID", "LOG_DIVERGED", "PAGE_TOKEN_INVALID", "CONSUMER_REWOUND"})


class FakeRefusal(Exception):
    """A call is refused, as the service would."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        told = "" if reason in NOT_FOR_PASSENGERS else "This did not work. Please try again later."
        self.details = Details(reason=reason, customer_message=told, **details)  # type: ignore[arg-type]  # the fields of Details, by name


def invalid(violations: Mapping[str, str]) -> FakeRefusal:
    """The refusal that names every bad field."""
    named = ", ".join(violations)
    return FakeRefusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        f"The request has bad fields: {named}.",
        violations=violations,
    )


def status_name(payment: payment_pb2.Payment) -> str:
    """As error details carry it."""
    return payment_pb2.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_")
