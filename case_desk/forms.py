"""Forms that only the person to whom they were shown can send, and that do what they say once.

Each form holds a token: an id of its own, sealed with who it was shown to and what it is for. The id stands for the
request: sent twice, by a double click or after the back button, it is done once, and both get the same answer. What
was refused, and what was sent with other fields, is tried anew.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
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
    _acts: "OrderedDict[str, tuple[Mapping[str, str], asyncio.Task[str]]]" = field(default_factory=OrderedDict)
    """What was last sent with each form, and how it went."""

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

    async def once(
        self, request_id: str, fields: Mapping[str, str], act: Callable[[], Coroutine[Any, Any, str]]
    ) -> str:
        """What the act gives, done once however often the form is sent; it goes on when the browser turns away."""
        while (last := self._acts.get(request_id)) is not None and last[0] != fields and not last[1].done():
            # One form does one thing at a time, whatever is sent with it.
            await asyncio.wait([last[1]])
        if last is None or last[0] != fields or _has_failed(last[1]):
            last = self._acts[request_id] = (dict(fields), asyncio.create_task(act()))
            if len(self._acts) > KEPT_MAX:
                self._acts.popitem(last=False)
        return await asyncio.shield(last[1])

    def _seal(self, text: str, person: str, action: str) -> str:
        return hmac.new(self.key, "\0".join((text, person, action)).encode(), hashlib.sha256).hexdigest()


def _has_failed(task: asyncio.Task[str]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def check_origin(request: web.Request, origin: str) -> None:
    """FormRefused unless the browser says that the form was sent from a page of the desk itself."""
    expected = origin or f"{request.scheme}://{request.host}"
    if request.headers.getall("Origin", []) != [expected]:
        raise FormRefused
