"""Reads what the control API is sent. The first thing that does not exist is refused by name, with what does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import web

from daraja_simulator.errors import ERRORS
from daraja_simulator.quirks import BY_ID

# No script may keep a request or a callback longer than this; it bounds every wait a script can ask for.
SCRIPTED_SECONDS_MAX: Final = 3600.0
# As many as the ledger holds pushes; more is a mistake, not a test.
COUNT_MAX: Final = 1_000_000

Parsed = TypeVar("Parsed")


class UnreadableScript(ValueError):
    """The script asks for something that does not exist; the message says what does."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer given byte for byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RawBody:
    """A request body given byte for byte."""

    body: bytes
    content_type: str


def parse_raw_body(value: object) -> RawBody:
    """Read {"body" | "body_base64", "content_type"}."""
    raw = object_with(value, "a raw body", ("body", "body_base64", "content_type"))
    return RawBody(_bytes(raw), typed(raw, "content_type", str) or "application/json;charset=UTF-8")


def parse_raw_answer(value: object) -> RawAnswer:
    """Read {"status", "headers", "body" | "body_base64"}."""
    raw = object_with(value, "raw_answer", ("status", "headers", "body", "body_base64"))
    headers = typed(raw, "headers", dict) or {}
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in headers.items()):
        raise UnreadableScript("raw_answer: headers must map text to text")
    status = typed(raw, "status", int) or 200
    if not 200 <= status <= 599:
        raise UnreadableScript("raw_answer: status must be from 200 to 599")
    return RawAnswer(status, headers, _bytes(raw))


def optional(script: Mapping[str, Any], name: str, parse: Callable[[object], Parsed]) -> Parsed | None:
    """What is under a name, parsed; None where there is nothing or null."""
    value = script.get(name)
    return None if value is None else parse(value)


async def json_body(request: web.Request) -> dict[str, Any]:
    """The JSON object that came with a request; an empty body is an empty object."""
    try:
        value = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnreadableScript("the body must be a JSON object")
    return value


async def listed_behaviours(request: web.Request) -> list[object]:
    """The behaviours that a request lists as {"behaviours": […]}; any other object is one behaviour itself."""
    body = await json_body(request)
    listed = body["behaviours"] if set(body) == {"behaviours"} else [body]
    if not isinstance(listed, list):
        raise UnreadableScript("behaviours must be a list")
    return listed


def error_name(script: Mapping[str, Any]) -> str:
    """The refusal asked for; a bad token where none is."""
    return one_of(script, "error", ERRORS.keys()) or "invalid_access_token"


def whole(value: object, name: str) -> int:
    """A whole number, also as the text of a query string."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise UnreadableScript(f"{name} must be a whole number from 0 to {COUNT_MAX}")
    return value


def quirk_ids(script: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The quirks asked for; None leaves them to chance."""
    names = texts(script, "quirks")
    for name in names or ():
        if name not in BY_ID:
            raise UnreadableScript(f"quirks: {name!r} is not in the list `daraja-simulator quirks` prints")
    return None if names is None else tuple(names)


def object_with(value: object, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object with no other names than these."""
    if not isinstance(value, dict):
        raise UnreadableScript(f"{what} must be a JSON object")
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise UnreadableScript(f"{what} has no {', '.join(unknown)}; it may have {', '.join(names)}")
    return value


def one_of(script: Mapping[str, Any], name: str, known: Any) -> str | None:
    """One of the known words, or None."""
    value = script.get(name)
    if value is not None and value not in known:
        raise UnreadableScript(f"{name}: {value!r} is none of {', '.join(sorted(known))}")
    return None if value is None else str(value)


def typed(script: Mapping[str, Any], name: str, *types: type) -> Any:
    """A value of one of the types, or None."""
    value = script.get(name)
    # bool is an int to Python and never one to JSON.
    if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        raise UnreadableScript(f"{name} must be {' or '.join(kind.__name__ for kind in types)}")
    return value


def seconds(script: Mapping[str, Any], name: str) -> float | None:
    """A bounded number of seconds, or None."""
    value = typed(script, name, int, float)
    if value is not None and not 0 <= value <= SCRIPTED_SECONDS_MAX:
        raise UnreadableScript(f"{name} must be from 0 to {SCRIPTED_SECONDS_MAX:.0f}")
    return None if value is None else float(value)


def texts(script: Mapping[str, Any], name: str) -> list[str] | None:
    """A list of texts, or None."""
    value = script.get(name)
    if value is not None and (not isinstance(value, list) or not all(isinstance(item, str) for item in value)):
        raise UnreadableScript(f"{name} must be a list of texts")
    return value


def _bytes(raw: Mapping[str, Any]) -> bytes:
    encoded = typed(raw, "body_base64", str)
    if encoded is None:
        return (typed(raw, "body", str) or "").encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableScript("body_base64 is not base64") from None
