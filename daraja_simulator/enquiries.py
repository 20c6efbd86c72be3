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

What a status query's script and that of a question for the balance may have stands in result_scripts.py.

A pull's script has error, raw_answer and quirks, with the same meaning. Which rows a pull has is decided by each
push's own behaviour (behaviour.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, fields
from typing import Final

from daraja_simulator.errors import ERRORS
from daraja_simulator.reading import (
    RawAnswer,
    UnreadableScript,
    object_with,
    one_of,
    optional,
    parse_raw_answer,
    quirk_ids,
    typed,
)
from daraja_simulator.result_scripts import ResultBehaviour

# Of a query that is held and never let go: longer than anybody waits for an answer.
HELD_SECONDS_MAX: Final = 60.0

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


@dataclass(frozen=True, slots=True)
class PullBehaviour:
    """One pull's script; see the module's text for the fields."""

    error: str | None = None
    raw_answer: RawAnswer | None = None
    quirks: tuple[str, ...] | None = None


@dataclass(slots=True)
class Held:
    """Queries about one phone's pushes that have come, and get their answer when they are let go."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


@dataclass(slots=True)
class Enquiries:
    """What is scripted for coming questions, and how many there have been."""

    query_faults: deque[QueryAnswer] = field(default_factory=deque)
    # By phone.
    query_scripts: defaultdict[str, deque[QueryAnswer]] = field(default_factory=lambda: defaultdict(deque))
    held: dict[str, Held] = field(default_factory=dict)
    status_faults: deque[ResultBehaviour] = field(default_factory=deque)
    status_scripts: defaultdict[str, deque[ResultBehaviour]] = field(default_factory=lambda: defaultdict(deque))
    pull_faults: deque[PullBehaviour] = field(default_factory=deque)
    balance_faults: deque[ResultBehaviour] = field(default_factory=deque)
    # By CheckoutRequestID, and by the transaction that is asked about; "" stands for what does not exist.
    queries_asked: Counter[str] = field(default_factory=Counter)
    statuses_asked: Counter[str] = field(default_factory=Counter)
    pulls_asked: int = 0
    balances_asked: int = 0
    query_times: deque[float] = field(default_factory=deque)

    async def until_let_go(self, phone: str) -> None:
        """Wait while queries about a phone's pushes are held."""
        held = self.held.get(phone)
        if held is None:
            return
        held.waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(held.let_go.wait(), HELD_SECONDS_MAX)
        finally:
            held.waiting -= 1

    def next_status(self, phone: str) -> ResultBehaviour:
        """The script of a status query about a phone's payment; uses it up."""
        if self.status_faults:
            return self.status_faults.popleft()
        scripts = self.status_scripts.get(phone)
        return scripts.popleft() if scripts else ResultBehaviour()

    def next_pull(self) -> PullBehaviour:
        """The script of a pull; uses it up."""
        return self.pull_faults.popleft() if self.pull_faults else PullBehaviour()

    def next_balance(self) -> ResultBehaviour:
        """The script of a question for the balance; uses it up."""
        return self.balance_faults.popleft() if self.balance_faults else ResultBehaviour()

    def counts(self) -> dict[str, int]:
        """How often each kind of question has been asked."""
        return {
            "queries_asked": self.queries_asked.total(),
            "statuses_asked": self.statuses_asked.total(),
            "pulls_asked": self.pulls_asked,
            "balances_asked": self.balances_asked,
        }


_PULL_NAMES: Final = tuple(field.name for field in fields(PullBehaviour))


def parse_query_answers(value: object) -> tuple[QueryAnswer, ...]:
    """Read a list of scripted answers to STK queries."""
    if not isinstance(value, list):
        raise UnreadableScript("answers to queries must be a list")
    return tuple(_query_answer(item) for item in value)


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
