"""The latest requests that came to Daraja's paths, with their answers, for a developer to read.

Decides what of them may be shown: what opens something is left out, a callback's address loses its path, whose token is
a secret, and a payer's number loses its middle wherever it stands. Nothing is read or masked before somebody looks.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

KEPT_MAX: Final = 500
_TEXT_CHARACTERS_MAX: Final = 2_000

_SECRET: Final = frozenset({"Password", "SecurityCredential", "access_token"})
_ADDRESS: Final = frozenset({"CallBackURL", "ResultURL", "QueueTimeOutURL"})
_CHECKOUT_ID: Final = re.compile(r"(ws_CO_[0-9]{17})[0-9]{9}")
_PHONE: Final = re.compile(r"(?<![0-9])(254[17]|0[17])[0-9]+([0-9]{3})(?![0-9])")


@dataclass(frozen=True, slots=True)
class Heard:
    """One request, and what was answered; status is None where the connection ended instead."""

    number: int
    time: float
    seconds: float
    method: str
    path: str
    body: bytes
    status: int | None
    answer: bytes


@dataclass(slots=True)
class HeardRequests:
    """The last of them; the ledger keeps what counts."""

    kept: deque[Heard] = field(default_factory=lambda: deque(maxlen=KEPT_MAX))
    number: int = 0

    async def answered(
        self, request: web.Request, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer the request, and keep both."""
        began = time.time()
        response = await answer()
        # What the answer has not read is not read for this either: a connection may be closed over it.
        body = b"" if request.can_read_body else await request.read()
        transport = request.transport
        gone = transport is None or transport.is_closing()
        said = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
        self.number += 1
        status = None if gone else response.status
        seconds = time.time() - began
        self.kept.append(Heard(self.number, began, seconds, request.method, request.path, body, status, said))
        return response

    def listed(self) -> list[dict[str, Any]]:
        """As the control API shows them, the newest first."""
        return [
            {
                "number": one.number,
                "time": one.time,
                "seconds": round(one.seconds, 3),
                "method": one.method,
                "path": one.path,
                "body": _readable(one.body),
                "status": one.status,
                "answer": _readable(one.answer) if one.status is not None else None,
            }
            for one in reversed(self.kept)
        ]


def _readable(content: bytes) -> Any:
    """JSON as an object and all else as text, with what is nobody's reading masked."""
    if not content:
        return None
    try:
        return _masked(json.loads(content))
    except (ValueError, RecursionError):
        return _masked(content.decode(errors="replace")[:_TEXT_CHARACTERS_MAX])


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {_masked_text(key): _masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, name) for inner in value]
    if name in _SECRET:
        return "…"
    if name in _ADDRESS and isinstance(value, str):
        return _without_path(value)
    if isinstance(value, bool | None | float):
        return value
    text = _masked_text(str(value))
    return value if text == str(value) else text


def _masked_text(text: str) -> str:
    return _PHONE.sub(r"\1****\2", _CHECKOUT_ID.sub(r"\1*********", text))


def _without_path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    return f"{parts.scheme}://{parts.netloc}/…"
