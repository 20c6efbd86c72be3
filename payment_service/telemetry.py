"""Traces: how one is begun, passed on as text, and taken up again.

A trace runs from a caller's RPC through the send to the callback that ends the
payment, over several processes and minutes; between them it travels as a W3C
`traceparent`, in metadata and in the payment's row. Where they go is decided
in `runtime.exporting`; if nowhere, they still number the log lines.

The names are those of the stable RPC conventions of OpenTelemetry. The Python
package of conventions still has the older ones, so they are spelled out here.
"""

import contextlib
import re
from collections.abc import Iterator

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

TRACEPARENT = "traceparent"
"""The metadata key."""

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.status_code"
ERROR_TYPE = "error.type"

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"},
)
"""Statuses that are the server's failure; any other is an answer."""

_tracer = trace.get_tracer("payment_service.rpc")


def traceparent() -> str | None:
    """The current span as text, to be stored or sent; None outside of any."""
    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"


def trace_id(trace_parent: str | None) -> str | None:
    """The id that ties a payment's log lines together: the trace of the call that made it."""
    return trace_parent.split("-")[1] if trace_parent else None


@contextlib.contextmanager
def remote_parent(text: str | None) -> Iterator[None]:
    """Spans that begin inside continue the trace in `text`; anything that is no traceparent is ignored."""
    parent = _parent(text)
    if parent is None:
        yield
        return
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)


def start_server_span(method: str, parent: str | None) -> Span:
    """A span for one RPC. `method` is package.Service/Method; make it current with `trace.use_span`, and end it."""
    return _tracer.start_span(
        method, _parent(parent), SpanKind.SERVER, attributes={RPC_SYSTEM: "grpc", RPC_METHOD: method}
    )


def note_status(span: Span, status_name: str) -> None:
    """Record how the RPC ended: the name of a gRPC status code."""
    span.set_attribute(RPC_STATUS, status_name)
    if status_name in _FAULTS:
        span.set_attribute(ERROR_TYPE, status_name)
        span.set_status(Status(StatusCode.ERROR))


def _parent(text: str | None) -> context.Context | None:
    found = _TRACEPARENT.fullmatch(text) if text else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(remote))
