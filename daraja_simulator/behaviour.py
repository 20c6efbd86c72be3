"""How one push is lived through: what the phone does, how the push is answered, how the callback travels.

A behaviour comes from a virtual phone's number (phones.py) or from the control API. This file decides what can be
asked for and refuses the rest by name; it leaves the doing to push.py and callbacks.py.

As JSON, every field optional:

  ending                  name from `daraja-simulator phones`; otherwise the number decides
  result_code             integer or string, over the ending's code; result_desc goes with it
  pays                    whether money leaves the phone; otherwise exactly when the code is 0
  error                   name of a refusal (errors.py), instead of accepting the push
  raw_answer              {"status", "headers", "body" | "body_base64"}: instead of the real answer
  prompts                 whether the phone is prompted, whatever the answer; otherwise when the push is accepted
  answer                  normal, lost (closed without a byte), reset (the same with a TCP reset), cut_header,
                          cut_body, closed_unread (only as a fault: before the push is read)
  answer_delay_seconds    the phone has the prompt, the answer waits so long
  callback                once, never, twice, before_answer, reordered (after a later payment's), held
  callback_delay_seconds  from the prompt to the phone's result and its callback
  callback_gap_seconds    between the two callbacks of "twice"; 0 sends them at the same moment
  callback_items          metadata values by name, over the real ones, such as {"Amount": 1}
  callback_without        metadata items left out; "CallbackMetadata" leaves out all of it
  callback_ids            {"MerchantRequestID", "CheckoutRequestID"}: a text instead, or null to leave it out
  raw_callback            {"body" | "body_base64", "content_type"}: instead of the real body
  quirks                  exactly these quirks for the answer and the callback, instead of drawn ones
  queries                 answers to the next queries for this push: a pending quirk's name (4999, being_processed,
                          empty_error, invalid_checkout, does_not_exist), rate_limited, error_after_end, result
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from daraja_simulator.errors import ERRORS
from daraja_simulator.quirks import BY_ID

# No script may keep a request or a callback longer than this; it bounds every wait a script can ask for.
SCRIPTED_SECONDS_MAX: Final = 3600.0


class Answer(StrEnum):
    """What becomes of the answer to a push."""

    NORMAL = "normal"
    LOST = "lost"
    RESET = "reset"
    CUT_HEADER = "cut_header"
    CUT_BODY = "cut_body"
    CLOSED_UNREAD = "closed_unread"


class Delivery(StrEnum):
    """What becomes of the callback."""

    ONCE = "once"
    NEVER = "never"
    TWICE = "twice"
    BEFORE_ANSWER = "before_answer"
    REORDERED = "reordered"
    HELD = "held"


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


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One push's script; see the module's text for the fields."""

    ending: str | None = None
    result_code: int | str | None = None
    result_desc: str | None = None
    pays: bool | None = None
    error: str | None = None
    raw_answer: RawAnswer | None = None
    prompts: bool | None = None
    answer: Answer = Answer.NORMAL
    answer_delay_seconds: float = 0.0
    callback: Delivery = Delivery.ONCE
    callback_delay_seconds: float | None = None
    callback_gap_seconds: float = 0.0
    callback_items: Mapping[str, Any] | None = None
    callback_without: tuple[str, ...] = ()
    callback_ids: Mapping[str, str | None] | None = None
    raw_callback: RawBody | None = None
    quirks: tuple[str, ...] | None = None
    queries: tuple[str, ...] = ()


QUERY_ANSWERS: Final = (
    "being_processed",
    "4999",
    "empty_error",
    "invalid_checkout",
    "does_not_exist",
    "error_after_end",
    "rate_limited",
    "result",
)
_NAMES: Final = tuple(field.name for field in fields(Behaviour))


def parse_behaviour(value: object, ending_names: frozenset[str]) -> Behaviour:
    """Read a behaviour from JSON; the first thing that does not exist is named with what does."""
    script = _object(value, "a behaviour", _NAMES)
    ending = _one_of(script, "ending", ending_names)
    error = _one_of(script, "error", ERRORS.keys())
    return Behaviour(
        ending=ending,
        result_code=_typed(script, "result_code", int, str),
        result_desc=_typed(script, "result_desc", str),
        pays=_typed(script, "pays", bool),
        error=error,
        raw_answer=_raw_answer(script["raw_answer"]) if script.get("raw_answer") is not None else None,
        prompts=_typed(script, "prompts", bool),
        answer=Answer(_one_of(script, "answer", tuple(Answer)) or Answer.NORMAL),
        answer_delay_seconds=_seconds(script, "answer_delay_seconds") or 0.0,
        callback=Delivery(_one_of(script, "callback", tuple(Delivery)) or Delivery.ONCE),
        callback_delay_seconds=_seconds(script, "callback_delay_seconds"),
        callback_gap_seconds=_seconds(script, "callback_gap_seconds") or 0.0,
        callback_items=_typed(script, "callback_items", dict),
        callback_without=tuple(_texts(script, "callback_without") or ()),
        callback_ids=_typed(script, "callback_ids", dict),
        raw_callback=parse_raw_body(script["raw_callback"]) if script.get("raw_callback") is not None else None,
        quirks=_quirks(script),
        queries=parse_query_answers(script.get("queries", [])),
    )


def parse_query_answers(value: object) -> tuple[str, ...]:
    """Read a list of scripted answers to queries."""
    names = _texts({"queries": value}, "queries") or []
    for name in names:
        if name not in QUERY_ANSWERS:
            raise UnreadableScript(f"queries: {name!r} is none of {', '.join(QUERY_ANSWERS)}")
    return tuple(names)


def parse_raw_body(value: object) -> RawBody:
    """Read {"body" | "body_base64", "content_type"}."""
    raw = _object(value, "a raw body", ("body", "body_base64", "content_type"))
    return RawBody(_bytes(raw), _typed(raw, "content_type", str) or "application/json;charset=UTF-8")


def _raw_answer(value: object) -> RawAnswer:
    raw = _object(value, "raw_answer", ("status", "headers", "body", "body_base64"))
    headers = _typed(raw, "headers", dict) or {}
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in headers.items()):
        raise UnreadableScript("raw_answer: headers must map text to text")
    status = _typed(raw, "status", int) or 200
    if not 200 <= status <= 599:
        raise UnreadableScript("raw_answer: status must be from 200 to 599")
    return RawAnswer(status, headers, _bytes(raw))


def _quirks(script: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = _texts(script, "quirks")
    for name in names or ():
        if name not in BY_ID:
            raise UnreadableScript(f"quirks: {name!r} is not in the list `daraja-simulator quirks` prints")
    return None if names is None else tuple(names)


def _object(value: object, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableScript(f"{what} must be a JSON object")
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise UnreadableScript(f"{what} has no {', '.join(unknown)}; it may have {', '.join(names)}")
    return value


def _one_of(script: Mapping[str, Any], name: str, known: Any) -> str | None:
    value = script.get(name)
    if value is not None and value not in known:
        raise UnreadableScript(f"{name}: {value!r} is none of {', '.join(sorted(known))}")
    return None if value is None else str(value)


def _typed(script: Mapping[str, Any], name: str, *types: type) -> Any:
    value = script.get(name)
    # bool is an int to Python and never one to JSON.
    if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        raise UnreadableScript(f"{name} must be {' or '.join(kind.__name__ for kind in types)}")
    return value


def _seconds(script: Mapping[str, Any], name: str) -> float | None:
    value = _typed(script, name, int, float)
    if value is not None and not 0 <= value <= SCRIPTED_SECONDS_MAX:
        raise UnreadableScript(f"{name} must be from 0 to {SCRIPTED_SECONDS_MAX:.0f}")
    return None if value is None else float(value)


def _texts(script: Mapping[str, Any], name: str) -> list[str] | None:
    value = script.get(name)
    if value is not None and (not isinstance(value, list) or not all(isinstance(item, str) for item in value)):
        raise UnreadableScript(f"{name} must be a list of texts")
    return value


def _bytes(raw: Mapping[str, Any]) -> bytes:
    encoded = _typed(raw, "body_base64", str)
    if encoded is None:
        return (_typed(raw, "body", str) or "").encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableScript("body_base64 is not base64") from None
