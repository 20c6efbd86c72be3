"""One event as a webhook: its body, its signature, and what an answer to it means.

Headers and signature are those of Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`), so the
team that receives it checks it with a library of its language.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
from google.protobuf.json_format import MessageToDict
from standardwebhooks import Webhook

from examples.webhook_relay.outbox import Entry
from payment_client import PaymentEvent, PaymentEventType

ANSWER_WAIT_SECONDS: Final = 15.0
_PREFIX: Final = "PAYMENT_EVENT_TYPE_"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def entry_of(event: PaymentEvent) -> Entry:
    """The event as it is kept and posted. Names are those of the API; times are RFC 3339."""
    data = MessageToDict(event.payment, preserving_proto_field_name=True)
    body = {
        "type": f"payment.{_kind_of(event)}",
        "timestamp": event.event_time.ToJsonString(),
        "data": data,
    }
    return Entry(event.event_id, event.payment.booking_id, json.dumps(body, ensure_ascii=False, sort_keys=True))


def _kind_of(event: PaymentEvent) -> str:
    """What has happened. A service that is newer than this relay may tell of more than the relay has a name for."""
    if event.type not in PaymentEventType.values():
        return "updated"
    return PaymentEventType.Name(event.type).removeprefix(_PREFIX).lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one post."""

    taken: bool
    error: str = ""
    retry_after: float = 0.0
    """Seconds that the receiver asks for."""


class Receiver:
    """The team's endpoint."""

    def __init__(self, url: str, secret: str, http: httpx.AsyncClient) -> None:
        """`secret` is `whsec_` and base64 of 24 to 64 random bytes, as Standard Webhooks has it.

        ValueError says what is wrong with the address.
        """
        address = urlsplit(url)
        if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
            raise ValueError(f"the address of the receiver: expected https, or http to this machine, not {url!r}")
        self._url, self._webhook, self._http = url, Webhook(secret), http

    async def post(self, event_id: str, body: str, now: float) -> Answer:
        """Post it once. Whatever is not a 2xx is to be tried again: a receiver repeats no work, it knows the id."""
        at = datetime.fromtimestamp(now, UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._webhook.sign(event_id, at, body),
        }
        try:
            answer = await self._http.post(
                self._url, content=body.encode(), headers=headers, timeout=ANSWER_WAIT_SECONDS, follow_redirects=False
            )
        except httpx.HTTPError as error:
            return Answer(False, f"no answer: {type(error).__name__}")
        if answer.is_success:
            return Answer(True)
        return Answer(False, f"HTTP {answer.status_code}", _seconds(answer.headers.get("retry-after", ""), at))


def _seconds(retry_after: str, now: datetime) -> float:
    """The header as seconds from now; 0 where it says nothing that can be read."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0
