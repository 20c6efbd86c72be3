"""What docs/other-languages.md tells teams of other languages is so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from payment_client.options import SERVICE

from payment_service.rpc.server import METADATA_MAX_BYTES, RECEIVE_MAX_BYTES
from runtime.grpc_options import CLIENT_OPTIONS, SERVER_OPTIONS
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import Process

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "other-languages.md").read_text(encoding="utf-8")
DETAILS = PROJECT / "examples" / "node_booking" / "proto" / "google" / "rpc" / "error_details.proto"
SENT = ("ErrorInfo", "BadRequest", "RetryInfo", "LocalizedMessage")


async def no_connection(_: grpc.aio.Channel) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1", options=CLIENT_OPTIONS) as nowhere:
        await PaymentServiceStub(nowhere).ListPayments(pb.ListPaymentsRequest(), timeout=PATIENCE_SECONDS)


async def no_time(channel: grpc.aio.Channel) -> None:
    await PaymentServiceStub(channel).ListPayments(pb.ListPaymentsRequest(), timeout=0)


async def no_such_method(channel: grpc.aio.Channel) -> None:
    await channel.unary_unary(f"/{SERVICE}/PayTwice", None, None)(b"")


async def too_large(channel: grpc.aio.Channel) -> None:
    request = pb.ListPaymentsRequest(page_token="x" * RECEIVE_MAX_BYTES)
    await PaymentServiceStub(channel).ListPayments(request)


async def too_many_headers(channel: grpc.aio.Channel) -> None:
    headers = (("x-large", "x" * 2 * METADATA_MAX_BYTES),)
    await PaymentServiceStub(channel).ListPayments(pb.ListPaymentsRequest(), metadata=headers)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (no_connection, grpc.StatusCode.UNAVAILABLE),
        (no_time, grpc.StatusCode.DEADLINE_EXCEEDED),
        (no_such_method, grpc.StatusCode.UNIMPLEMENTED),
        (too_large, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (too_many_headers, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_an_error_that_the_transport_makes_has_no_details_and_is_on_the_page(
    process: Process, call: Callable[[grpc.aio.Channel], Awaitable[None]], code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(process.channel)
    assert caught.value.code() == code
    assert rpc_status.from_call(caught.value) is None  # type: ignore[arg-type]  # it has what is needed of a call
    assert f"\n| {code.name} |" in PAGE


def test_the_page_publishes_how_often_a_client_may_ping() -> None:
    options = dict(SERVER_OPTIONS)
    seconds = options["grpc.http2.min_ping_interval_without_data_ms"] // 1_000
    assert f"more often than every {seconds} seconds, at the fourth ping too many" in PAGE
    assert options["grpc.http2.max_ping_strikes"] == 3


def test_the_page_names_the_limits_of_a_request() -> None:
    assert (RECEIVE_MAX_BYTES // 2**20, METADATA_MAX_BYTES // 2**10) == (1, 8)
    assert "a request above 1 MiB, headers above 8 KiB" in PAGE


def test_the_node_example_has_the_messages_of_error_details_as_google_numbers_them() -> None:
    text = DETAILS.read_text(encoding="utf-8")
    for name in SENT:
        assert f"`{name}`" in PAGE
        theirs = error_details_pb2.DESCRIPTOR.message_types_by_name[name]
        (ours,) = re.findall(rf"^message {name} {{\n(.*?)^}}", text, re.DOTALL | re.MULTILINE)
        top = re.sub(r"^  message .*?^  }", "", ours, flags=re.DOTALL | re.MULTILINE)
        numbered = dict(re.findall(r"^  [\w<>., ]+ (\w+) = (\d+);", top, re.MULTILINE))
        assert numbered == {field.name: str(field.number) for field in theirs.fields}
