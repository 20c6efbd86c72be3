"""The details that gRPC carries with an error, read and written without a package that holds google.rpc's protos.

The messages are google.rpc's Status, ErrorInfo, BadRequest, RetryInfo and LocalizedMessage, as far as the payment
service uses them. They live in a descriptor pool of their own, so that they meet no other copy in the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata in which the details travel."""
DOMAIN: Final = "mpesa-payments"
_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."

# Message by message: field name, number, and its type; a name ending in "*" is repeated.
_MESSAGES: Final[Mapping[str, Sequence[tuple[str, int, str]]]] = {
    "Any": [("type_url", 1, "string"), ("value", 2, "bytes")],
    "Duration": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
    "Pair": [("key", 1, "string"), ("value", 2, "string")],
    "FieldViolation": [("field", 1, "string"), ("description", 2, "string")],
    "Status": [("code", 1, "int32"), ("message", 2, "string"), ("details*", 3, "Any")],
    "ErrorInfo": [("reason", 1, "string"), ("domain", 2, "string"), ("metadata*", 3, "Pair")],
    "BadRequest": [("field_violations*", 1, "FieldViolation")],
    "RetryInfo": [("retry_delay", 1, "Duration")],
    "LocalizedMessage": [("locale", 1, "string"), ("message", 2, "string")],
}


@dataclass(frozen=True, slots=True)
class Details:
    """What an error says beside its code and its message."""

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Mapping[str, str] = field(default_factory=dict)
    """What was expected, by the name of the field."""
    retry_after: timedelta | None = None
    customer_message: str = ""
    """A sentence for the passenger."""


def read_details(content: bytes) -> Details:
    """The details in a trailer; those that cannot be read, or are another's, are left out."""
    status = _new("Status")
    try:
        status.ParseFromString(content)
        return _read(status)
    except DecodeError:
        return Details()


def write_details(code: int, message: str, details: Details) -> bytes:
    """The trailer of an error, as the payment service sends it."""
    info = _new("ErrorInfo", reason=details.reason, domain=DOMAIN)
    for key, value in details.metadata.items():
        info.metadata.add(key=key, value=value)
    parts = {"ErrorInfo": info}
    if details.violations:
        parts["BadRequest"] = bad = _new("BadRequest")
        for name, description in details.violations.items():
            bad.field_violations.add(field=name, description=description)
    if details.retry_after is not None:
        parts["RetryInfo"] = retry = _new("RetryInfo")
        whole, rest = divmod(details.retry_after, timedelta(seconds=1))
        retry.retry_delay.seconds, retry.retry_delay.nanos = whole, rest.microseconds * 1_000
    if details.customer_message:
        parts["LocalizedMessage"] = _new("LocalizedMessage", locale="en", message=details.customer_message)
    status = _new("Status", code=code, message=message)
    for name, part in parts.items():
        status.details.add(type_url=_TYPE_PREFIX + name, value=part.SerializeToString())
    return bytes(status.SerializeToString())


def _read(status: Any) -> Details:
    found: dict[str, Any] = {}
    for detail in status.details:
        name = detail.type_url.removeprefix(_TYPE_PREFIX)
        if name in _MESSAGES and name != detail.type_url:
            found[name] = _new(name)
            found[name].ParseFromString(detail.value)
    info = found.get("ErrorInfo")
    if info is None or info.domain != DOMAIN:
        return Details()
    retry_after = None
    if "RetryInfo" in found:
        delay = found["RetryInfo"].retry_delay
        retry_after = timedelta(seconds=delay.seconds, microseconds=delay.nanos // 1_000)
    violations = found["BadRequest"].field_violations if "BadRequest" in found else ()
    return Details(
        reason=info.reason,
        metadata={pair.key: pair.value for pair in info.metadata},
        violations={violation.field: violation.description for violation in violations},
        retry_after=retry_after,
        customer_message=found["LocalizedMessage"].message if "LocalizedMessage" in found else "",
    )


def _new(name: str, **values: object) -> Any:
    return _CLASSES[name](**values)


def _make_classes() -> Mapping[str, Any]:
    described = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="payment_client/error_details.proto", package="google.rpc")
    file.syntax = "proto3"
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            label = described.LABEL_REPEATED if field_name.endswith("*") else described.LABEL_OPTIONAL
            made = message.field.add(name=field_name.rstrip("*"), number=number, label=label)
            if kind in _MESSAGES:
                made.type, made.type_name = described.TYPE_MESSAGE, f".google.rpc.{kind}"
            else:
                made.type = described.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}")) for name in _MESSAGES
    }


_CLASSES: Final = _make_classes()
