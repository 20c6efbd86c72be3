"""How one push is lived through: what the phone does, how the push is answered, how the callback travels.

A behaviour comes from a virtual phone's number (phones.py) or from the control API. This file decides what can be
asked for and refuses the rest by name; it leaves the doing to push.py and callbacks.py.

As JSON, every field optional:

  ending                  name from `daraja-simulator phones`; otherwise the number decides
  result_code             integer or string, over the ending's code; result_desc goes with it
  pays                    whether money leaves the phone; otherwise exactly when the code is 0
  error                   name of a refusal (errors.py), instead of accepting the push
  raw_answer              {"status", "headers", "body" | "body_base64"}: instead of the real answer
  prompts                 whether the phone is prompted, whatever the answer; otherwise when the push is accepted.
                          With "error" and true, or accepted and false, the answer lies
  answer                  normal, lost (closed without a byte), reset (the same with a TCP reset), cut_header,
                          cut_body, closed_unread (only as a fault: before the push is read)
  answer_delay_seconds    the phone has the prompt, the answer waits so long
  callback                once, never, twice, before_answer, reordered (after a later payment's), held
  callback_delay_seconds  from the prompt to the phone's result and its callback
  callback_gap_seconds    between the two callbacks of "twice"; 0 sends them at the same moment
  callback_items          metadata values by name, over the real ones, such as {"Amount": 1}
  callback_without        metadata items left out; "CallbackMetadata" leaves out all of it
  callback_ids            {"MerchantRequestID", "CheckoutRequestID"}: a text instead, or null to leave it out
  callback_ids_of         a phone: both ids are those of the latest push that reached it
  raw_callback            {"body" | "body_base64", "content_type"}: instead of the real body
  quirks                  exactly these quirks for all that is said of this push, instead of drawn ones
  queries                 answers to the next queries for this push (enquiries.py)
  pull                    once, never, twice: how often its money shows among the pulled transactions
  pull_delay_seconds      and how long after it moved
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from daraja_simulator.enquiries import QueryAnswer, parse_query_answers
from daraja_simulator.errors import ERRORS
from daraja_simulator.reading import (
    RawAnswer,
    RawBody,
    object_with,
    one_of,
    optional,
    parse_raw_answer,
    parse_raw_body,
    quirk_ids,
    seconds,
    texts,
    typed,
)


class Answer(StrEnum):
    """What becomes of the answer to a push."""

    NORMAL = "normal"
    LOST = "lost"
    RESET = "reset"
    CUT_HEADER = "cut_header"
    CUT_BODY = "cut_body"
    CLOSED_UNREAD = "closed_unread"


class PullRows(StrEnum):
    """How often the money that moved shows among the pulled transactions."""

    ONCE = "once"
    NEVER = "never"
    TWICE = "twice"


class Delivery(StrEnum):
    """What becomes of the callback."""

    ONCE = "once"
    NEVER = "never"
    TWICE = "twice"
    BEFORE_ANSWER = "before_answer"
    REORDERED = "reordered"
    HELD = "held"


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
    callback_ids_of: str | None = None
    raw_callback: RawBody | None = None
    quirks: tuple[str, ...] | None = None
    queries: tuple[QueryAnswer, ...] = ()
    pull: PullRows = PullRows.ONCE
    pull_delay_seconds: float = 0.0


_NAMES: Final = tuple(field.name for field in fields(Behaviour))


def parse_behaviour(value: object, ending_names: frozenset[str]) -> Behaviour:
    """Read a behaviour from JSON; the first thing that does not exist is named with what does."""
    script = object_with(value, "a behaviour", _NAMES)
    ending = one_of(script, "ending", ending_names)
    error = one_of(script, "error", ERRORS.keys())
    return Behaviour(
        ending=ending,
        result_code=typed(script, "result_code", int, str),
        result_desc=typed(script, "result_desc", str),
        pays=typed(script, "pays", bool),
        error=error,
        raw_answer=optional(script, "raw_answer", parse_raw_answer),
        prompts=typed(script, "prompts", bool),
        answer=Answer(one_of(script, "answer", tuple(Answer)) or Answer.NORMAL),
        answer_delay_seconds=seconds(script, "answer_delay_seconds") or 0.0,
        callback=Delivery(one_of(script, "callback", tuple(Delivery)) or Delivery.ONCE),
        callback_delay_seconds=seconds(script, "callback_delay_seconds"),
        callback_gap_seconds=seconds(script, "callback_gap_seconds") or 0.0,
        callback_items=typed(script, "callback_items", dict),
        callback_without=tuple(texts(script, "callback_without") or ()),
        callback_ids=typed(script, "callback_ids", dict),
        callback_ids_of=typed(script, "callback_ids_of", str),
        raw_callback=optional(script, "raw_callback", parse_raw_body),
        quirks=quirk_ids(script),
        queries=optional(script, "queries", parse_query_answers) or (),
        pull=PullRows(one_of(script, "pull", tuple(PullRows)) or PullRows.ONCE),
        pull_delay_seconds=seconds(script, "pull_delay_seconds") or 0.0,
    )
