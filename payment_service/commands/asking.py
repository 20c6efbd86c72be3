"""How commands ask the running service: where it is, how its answers are shown, and what is asked of people first."""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, cast

import grpc
import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub
from rich.console import Console

from payment_service.config import OperatorSettings
from runtime.grpc_options import DETAILS_KEY
from runtime.serving import Address, StartRefused, refuse, run
from runtime.tls import TlsContent, TlsSettingsMissing, open_channel, read_tls

CALL_SECONDS: Final = 30.0
"""The longest that the service takes for a call."""


class Output(StrEnum):
    """How an answer is shown."""

    TEXT = "text"
    JSON = "json"


Service = Annotated[str | None, typer.Option("--service", help="HOST:PORT of the service; else PAYMENTS_GRPC_ADDRESS.")]
As = Annotated[Output, typer.Option("--output", help="Lines for people, or JSON for programs.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with your name for ever.")]
Name = Annotated[str | None, typer.Option("--operator", help="Your name; without it, that of your account here.")]


def ask(
    service: str | None,
    call: Callable[[Any], Coroutine[Any, Any, Message]],
    output: Output,
    show: Callable[[Console, Any], None],
) -> None:
    """Call the service and show its answer."""
    where = reached(service)

    async def one() -> None:
        async with operations(where) as stub:
            answer = await call(stub)
        if output is Output.JSON:
            sys.stdout.write(MessageToJson(answer, preserving_proto_field_name=True) + "\n")
        else:
            show(Console(), answer)

    run(one())


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the service is, and what it is shown; without that, plaintext."""

    address: Address
    shown: TlsContent | None = field(repr=False)


def reached(given: str | None) -> Reached:
    """The service by the flag or by the environment; the program ends where the settings cannot be used."""
    try:
        settings = OperatorSettings.load(grpc_address=given)
        files = settings.client_tls
        return Reached(settings.grpc_address, None if files is None else read_tls(files, datetime.now(UTC)))
    except TlsSettingsMissing as missing:
        refuse(StartRefused(f"{missing}; or PAYMENTS_PLAINTEXT=true for a service that takes calls without TLS."))
    except StartRefused as refusal:
        refuse(refusal)


@contextlib.asynccontextmanager
async def operations(where: Reached) -> AsyncIterator[OperationsServiceStub]:
    """The service; what it refuses is its own sentence, and one that does not answer is one as well."""
    try:
        async with open_channel(where.address, where.shown) as channel:
            yield OperationsServiceStub(channel)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            why = f"The payment service at {where.address} does not answer: name another with --service."
            if where.shown is not None:
                why += f" Or its certificate or yours is not accepted; gRPC says: {error.details()}."
            raise StartRefused(why) from error
        raise StartRefused(error.details() or f"The payment service failed ({error.code().name}).") from error


def cause_of(error: grpc.aio.AioRpcError) -> str:
    """What the service names as the cause of a refusal, for programs; empty where it names none."""
    info = error_details_pb2.ErrorInfo()
    told = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    packed = told.get(DETAILS_KEY)
    if isinstance(packed, bytes):
        for detail in status_pb2.Status.FromString(packed).details:
            detail.Unpack(info)
    return str(info.metadata.get("cause", ""))


def next_line() -> str:
    """A number that is typed as an argument stands in the shell's history, and for a moment in the process list."""
    return sys.stdin.readline().strip()


def confirm(question: str) -> None:
    """Ask a person once whether to do it; StartRefused unless they say so."""
    if not sys.stdin.isatty():
        raise StartRefused("Nobody can be asked here whether to do it: say so with --yes.")
    if not typer.confirm(question):
        raise StartRefused("Nothing was done.")
