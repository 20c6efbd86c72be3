"""Which request ids have served, and for what: one that comes again means the same request, or is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message as Wire

from payment_client.testing.refusals import FakeRefusal


@dataclass(frozen=True)
class Served:
    """What a request id was used for."""

    method: str
    content: bytes
    payment_id: str


@dataclass
class RequestIds:
    """All methods that change something share them."""

    _served: dict[str, Served] = field(default_factory=dict)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._served

    def note(self, request_id: str, method: str, content: Wire, payment_id: str) -> None:
        """It has served."""
        self._served[request_id] = Served(method, content.SerializeToString(deterministic=True), payment_id)

    def payment_of(self, request_id: str) -> str:
        """The payment that it has made or changed; empty where it is new."""
        known = self._served.get(request_id)
        return known.payment_id if known is not None else ""

    def repeated(self, request_id: str, method: str, content: Wire) -> str:
        """The payment of one that comes again; empty where it is new. Refuses it where it was for something else."""
        known = self._served.get(request_id)
        if known is None:
            return ""
        if known.method != method:
            fields = ["method"]
        else:
            before = type(content).FromString(known.content)
            names = [described.name for described in content.DESCRIPTOR.fields]
            fields = [name for name in names if getattr(before, name) != getattr(content, name)]
        if fields:
            raise FakeRefusal(
                grpc.StatusCode.ALREADY_EXISTS,
                "REQUEST_ID_REUSED",
                "The request id was used with other content.",
                metadata={"payment_id": known.payment_id, "fields": ",".join(sorted(fields))},
            )
        return known.payment_id
