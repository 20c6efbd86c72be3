"""How a channel is set up: what is retried, how a dead peer is noticed, and that no proxy is used by accident."""

from __future__ import annotations

import json
from typing import Final

SERVICE: Final = "mpesa_payments.v1.PaymentService"

# Reads, and what carries a request id: the service answers a repeat with the same payment. An acknowledgement moves
# forward only. Streams are not among them:
# the client resumes those by their cursor. UNAVAILABLE alone is retried, for it alone passes by itself.
_RETRIED: Final = (
    "InitiatePayment",
    "RetryPayment",
    "CancelPayment",
    "RefundPayment",
    "GetPayment",
    "ListPayments",
    "AcknowledgeEvents",
)
# gRPC allows five attempts. With these pauses they span some two seconds, which is what a process takes to be replaced.
_RETRY_POLICY: Final = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {"name": [{"service": SERVICE, "method": method} for method in _RETRIED], "retryPolicy": _RETRY_POLICY}
        ],
        # Calls are spread over all addresses that the name of the service has.
        "loadBalancingConfig": [{"round_robin": {}}],
    }
)

Option = tuple[str, int | str]


def channel_options(*, proxy: bool) -> tuple[Option, ...]:
    """The options of every channel to the service."""
    return (
        ("grpc.service_config", SERVICE_CONFIG),
        # Proxy variables in the environment would otherwise carry off even loopback connections.
        ("grpc.enable_http_proxy", int(proxy)),
        # A dead peer behind a silent network is noticed after 30 + 10 s. The service allows a ping every 10 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # After an outage the next attempt comes within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.primary_user_agent", "payment-client/0.1.0"),
    )
