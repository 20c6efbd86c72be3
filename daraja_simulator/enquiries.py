"""How questions about payments are answered when a script wants it: STK queries, status queries, and pulls.

An answer to an STK query is one of

  being_processed, 4999, empty_error, invalid_checkout, does_not_exist     the five forms of "not yet"
  error_after_end      the error that comes although the prompt has ended
  result               the result, once there is one
  contradiction        the opposite of the ledger: paid where no money moved, cancelled where it did
  rate_limited         HTTP 429
  html, empty, wrong_types                     HTTP 200 with a page, with nothing, with values of the wrong JSON types
  {"result_code", "result_desc"}               a result as given
  {"raw_answer": {"status", "headers", "body" | "body_base64"}}

A status query's script, every field optional:

  error                name of a refusal (errors.py), instead of the acknowledgement
  raw_answer           as above, instead of the acknowledgement
  result               once, never, twice, queue_timeout (posted to QueueTimeOutURL instead); a query that is not
                       acknowledged has no result unless this is given
  delay_seconds        from the query to the result
  gap_seconds          between the two results of "twice"
  result_code          integer or string, over the real one; result_desc goes with it
  parameters           values by key, over the real ones, such as {"Amount": 1}
  without              keys left out
  raw_result           {"body" | "body_base64", "content_type"}: instead of the real body
  quirks               exactly these, instead of drawn ones

A pull's script has error, raw_answer and quirks, with the same meaning. Which rows a pull has is decided by each
push's own behaviour (behaviour.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from daraja_simulator.errors import ERRORS
from daraja_simulator.reading import (
    RawAnswer,
    RawBody,
    UnreadableScript,
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

QUERY_ANSWERS: Final = (
    "being_processed",
    "4999",
    "empty_error",
    "invalid_checkout",
    "does_not_exist",
    "error_after_end",
    "result",
    "contradiction",
    "rate_limited",
    "html",
    "empty",
    "wrong_types",
)


@dataclass(frozen=True, slots=True)
class StatedResult:
    """A result for an STK query to tell, whatever happened on the phone."""

    code: int | str
    desc: str


QueryAnswer = str | StatedResult | RawAnswer


class ResultDelivery(StrEnum):
    """What becomes of a status query's result."""

    ONCE = "once"
    NEVER = "never"
    TWICE = "twice"
    QUEUE_TIMEOUT = "queue_timeout"


@dataclass(frozen=True, slots=True)
class StatusBehaviour:
    """One status query's script; see the module's text for the fields."""

    error: str | None = None
    raw_answer: RawAnswer | None = None
    result: ResultDelivery | None = None
    delay_seconds: float | None = None
    gap_seconds: float = 0.0
    result_code: int | str | None = None
    result_desc: str | None = None
    parameters: Mapping[str, Any] | None = None
    without: tuple[str, ...] = ()
    raw_result: RawBody | None = None
    quirks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PullBehaviour:
    """One pull's script; see the module's text for the fields."""

    error: str | None = None
    raw_answer: RawAnswer | None = None
    quirks: tuple[str, ...] | None = None


@dataclass(slots=True)
class Enquiries:
    """What is scripted for coming questions, and how many there have been."""

    query_faults: deque[QueryAnswer] = field(default_factory=deque)
    # By phone.
    query_scripts: defaultdict[str, deque[QueryAnswer]] = field(default_factory=lambda: defaultdict(deque))
    status_faults: deque[StatusBehaviour] = field(default_factory=deque)
    status_scripts: defaultdict[str, deque[StatusBehaviour]] = field(default_factory=lambda: defaultdict(deque))
    pull_faults: deque[PullBehaviour] = field(default_factory=deque)
    # By CheckoutRequestID, and by number of the push; 0 stands for pushes that do not exist.
    queries_asked: Counter[str] = field(default_factory=Counter)
    statuses_asked: Counter[int] = field(default_factory=Counter)
    pulls_asked: int = 0
    query_times: deque[float] = field(default_factory=deque)

    def next_status(self, phone: str) -> StatusBehaviour:
        """The script of a status query about a phone's payment; uses it up."""
        if self.status_faults:
            return self.status_faults.popleft()
        scripts = self.status_scripts.get(phone)
        return scripts.popleft() if scripts else StatusBehaviour()

    def next_pull(self) -> PullBehaviour:
        """The script of a pull; uses it up."""
        return self.pull_faults.popleft() if self.pull_faults else PullBehaviour()

    def counts(self) -> dict[str, int]:
        """How often each kind of question has been asked."""
        return {
            "queries_asked": self.queries_asked.total(),
            "statuses_asked": self.statuses_asked.total(),
            "pulls_asked": self.pulls_asked,
        }


_STATUS_NAMES: Final = tuple(field.name for field in fields(StatusBehaviour))
_PULL_NAMES: Final = tuple(field.name for field in fields(PullBehaviour))


def parse_query_answers(value: object) -> tuple[QueryAnswer, ...]:
    """Read a list of scripted answers to STK queries."""
    if not isinstance(value, list):
        raise UnreadableScript("answers to queries must be a list")
    return tuple(_query_answer(item) for item in value)


def parse_status_behaviour(value: object) -> StatusBehaviour:
    """Read a status query's script."""
    script = object_with(value, "a status query's script", _STATUS_NAMES)
    delivery = one_of(script, "result", tuple(ResultDelivery))
    return StatusBehaviour(
        error=one_of(script, "error", ERRORS.keys()),
        raw_answer=optional(script, "raw_answer", parse_raw_answer),
        result=None if delivery is None else ResultDelivery(delivery),
        delay_seconds=seconds(script, "delay_seconds"),
        gap_seconds=seconds(script, "gap_seconds") or 0.0,
        result_code=typed(script, "result_code", int, str),
        result_desc=typed(script, "result_desc", str),
        parameters=typed(script, "parameters", dict),
        without=tuple(texts(script, "without") or ()),
        raw_result=optional(script, "raw_result", parse_raw_body),
        quirks=quirk_ids(script),
    )


def parse_pull_behaviour(value: object) -> PullBehaviour:
    """Read a pull's script."""
    script = object_with(value, "a pull's script", _PULL_NAMES)
    return PullBehaviour(
        error=one_of(script, "error", ERRORS.keys()),
        raw_answer=optional(script, "raw_answer", parse_raw_answer),
        quirks=quirk_ids(script),
    )


def _query_answer(value: object) -> QueryAnswer:
    if isinstance(value, str):
        if value not in QUERY_ANSWERS:
            raise UnreadableScript(f"queries: {value!r} is none of {', '.join(QUERY_ANSWERS)}")
        return value
    answer = object_with(value, "an answer to a query", ("result_code", "result_desc", "raw_answer"))
    raw = optional(answer, "raw_answer", parse_raw_answer)
    if raw is not None:
        return raw
    code = typed(answer, "result_code", int, str)
    if code is None:
        raise UnreadableScript("an answer to a query must have result_code or raw_answer")
    return StatedResult(code, typed(answer, "result_desc", str) or "A result as scripted.")
