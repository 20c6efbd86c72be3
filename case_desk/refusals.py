"""What the payment service refuses, in its own words: the sentence, and what is wrong with which field."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from case_desk.alarms import SERVICE_REFUSES_DESK
from runtime.alarms import raise_alarm
from runtime.grpc_options import DETAILS_KEY

_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
}
"""The refusals that are about what was asked for; all others are about the service."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done, for the page that asked."""

    status: int
    """Of HTTP."""
    sentence: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """What is expected, by the name of the field."""
    maybe_done: bool = False
    """Whether it may have been done all the same: the answer has not come."""


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The service's answer as one for people."""
    code, sentence = error.code(), error.details() or ""
    if (status := _STATUS.get(code)) is not None:
        fields = _fields_of(error)
        return Refusal(status, "Look at what is marked below." if fields else sentence, fields)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        raise_alarm(SERVICE_REFUSES_DESK, details=sentence)
        return Refusal(503, "The payment service does not let this desk do that. Whoever runs the desk has been told.")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refusal(503, sentence)
    words = "The payment service does not answer now. Look again before you repeat anything."
    return Refusal(503, words, maybe_done=True)


def _fields_of(error: grpc.aio.AioRpcError) -> Mapping[str, str]:
    violations = error_details_pb2.BadRequest()
    told = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    packed = told.get(DETAILS_KEY)
    if isinstance(packed, bytes):
        for detail in status_pb2.Status.FromString(packed).details:
            detail.Unpack(violations)
    return {one.field: one.description for one in violations.field_violations}
