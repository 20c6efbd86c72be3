"""How a request that is acknowledged now and told later is lived through, when a script wants it.

As JSON, every field optional:

  error                name of a refusal (errors.py), instead of the acknowledgement
  raw_answer           {"status", "headers", "body" | "body_base64"}: instead of the acknowledgement
  result               once, never, twice, queue_timeout (posted to QueueTimeOutURL instead), held (until it is
                       released); a request that is not acknowledged has no result unless this is given
  delay_seconds        from the request to the result
  gap_seconds          between the two results of "twice"
  result_code          integer or string, over the real one; result_desc goes with it
  parameters           values by key, over the real ones, such as {"Amount": 1}
  without              keys left out
  raw_result           {"body" | "body_base64", "content_type"}: instead of the real body
  quirks               exactly these, instead of drawn ones
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

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


class ResultDelivery(StrEnum):
    """What becomes of a result."""

    ONCE = "once"
    NEVER = "never"
    TWICE = "twice"
    QUEUE_TIMEOUT = "queue_timeout"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class ResultBehaviour:
    """The script of one request with a result; see the module's text for the fields."""

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


RESULT_NAMES: Final = tuple(field.name for field in fields(ResultBehaviour))


def parse_result_behaviour(value: object) -> ResultBehaviour:
    """Read the script of a request with a result."""
    script = object_with(value, "the script of a request with a result", RESULT_NAMES)
    delivery = one_of(script, "result", tuple(ResultDelivery))
    return ResultBehaviour(
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
