"""Forms that only the person to whom they were shown can send, and that do what they say once.

Each form holds a token: an id of its own, sealed with who it was shown to and what it is for. The id stands for the
request: sent twice, by a double click or after the back button, it is done once, and both get the same answer.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

FORM_LASTS_S: Final = 8 * 3600.0
"""A working day; whoever sends an older form is shown a new one."""
KEPT_MAX: Final = 10_000


class FormRefused(Exception):
    """The form was not shown to this person by this desk, or too long ago. Nothing was done."""


@dataclass(slots=True)
class Forms:
    """Makes tokens and judges them. The key lives as long as the process."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    now: Callable[[], float] = time.monotonic
    _done: "OrderedDict[str, asyncio.Task[str]]" = field(default_factory=OrderedDict)

    def token(self, person: str, action: str) -> str:
        """For a form that does this action, shown to this person."""
        text = f"{int(self.now())}.{secrets.token_hex(16)}"
        return f"{text}.{self._seal(text, person, action)}"

    def check(self, token: str, person: str, action: str) -> str:
        """The id of the request, or FormRefused."""
        text, _, seal = token.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(text, person, action).encode()):
            raise FormRefused
        made_at, _, request_id = text.partition(".")
        if self.now() - float(made_at) > FORM_LASTS_S:
            raise FormRefused
        return request_id

    async def once(self, request_id: str, act: Callable[[], Coroutine[Any, Any, str]]) -> str:
        """What the act gives, done once however often the form is sent; it goes on when the browser turns away."""
        task = self._done.get(request_id)
        if task is None:
            task = self._done[request_id] = asyncio.create_task(act())
            if len(self._done) > KEPT_MAX:
                self._done.popitem(last=False)
        return await asyncio.shield(task)

    def _seal(self, text: str, person: str, action: str) -> str:
        return hmac.new(self.key, "\0".join((text, person, action)).encode(), hashlib.sha256).hexdigest()


def check_origin(request: web.Request, origin: str) -> None:
    """FormRefused unless the browser says that the form was sent from a page of the desk itself."""
    expected = origin or f"{request.scheme}://{request.host}"
    if request.headers.getall("Origin", []) != [expected]:
        raise FormRefused
