"""Reading the details of an error, as a caller would."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    """An error with its details."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    fields: dict[str, str]
    retry_after: float | None
    customer_message: str = ""


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The details of an error; each kind is there at most once."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is needed of a call
    assert status is not None, "an error without details"
    assert len({detail.type_url for detail in status.details}) == len(status.details)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_after, sentence = None, error_details_pb2.LocalizedMessage()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
        elif detail.Is(sentence.DESCRIPTOR):
            detail.Unpack(sentence)
        else:
            assert detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    fields = {violation.field: violation.description for violation in bad.field_violations}
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason,
        info.domain,
        dict(info.metadata),
        fields,
        retry_after,
        sentence.message,
    )


async def refused(call: Awaitable[object]) -> Refusal:
    """The error that a call must end in."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)
