"""JSON from the other side, read strictly: what two readers could understand differently is not read at all.

Refused: duplicate keys, NaN and Infinity, nesting deeper than a callback ever is, text that is not UTF-8, NUL and lone
surrogates (PostgreSQL stores neither). Numbers keep their exact value; one too long to be meant comes out as a
`Decimal` NaN, which no caller takes for a number. What the values mean is decided by the readers.
"""

import json
import re
from decimal import Decimal, InvalidOperation

DEPTH_MAX = 8
"""A callback nests five levels, with an object inside an item's value seven."""

NUMBER_MAX_CHARACTERS = 30
"""The longest number ever seen is a date of 14 digits; a few hundred digits only cost time."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_A_NUMBER = Decimal("NaN")


class NotStrictJson(ValueError):
    """The text is no JSON, or not of the strict kind; the message says which rule it breaks and quotes nothing."""


def read_strict_json(body: bytes) -> object:
    """The value, with numbers as int or Decimal; raises `NotStrictJson` and nothing else."""
    try:
        value: object = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except NotStrictJson:
        raise
    except UnicodeDecodeError as error:
        raise NotStrictJson("not UTF-8") from error
    except RecursionError as error:
        raise NotStrictJson("nested too deeply") from error
    except ValueError as error:
        raise NotStrictJson("not JSON") from error
    _check(value, 1)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictJson("a key comes twice")
    return found


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text) if len(text) <= NUMBER_MAX_CHARACTERS else _NOT_A_NUMBER
    except InvalidOperation:
        # An exponent beyond what decimal can hold.
        return _NOT_A_NUMBER


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= NUMBER_MAX_CHARACTERS else _NOT_A_NUMBER


def _refuse_constant(_name: str) -> object:
    raise NotStrictJson("NaN or Infinity")


def _check(value: object, depth: int) -> None:
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise NotStrictJson("NUL or a lone surrogate in a text")
        return
    if not isinstance(value, dict | list):
        return
    if depth > DEPTH_MAX:
        raise NotStrictJson("nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth + 1)
    else:
        for inner in value:
            _check(inner, depth + 1)
