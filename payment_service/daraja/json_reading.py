"""JSON from the other side, read so that a defect in one value costs no other value.

Accepted, since it says nothing about the values beside it: a byte order mark, bytes that are not UTF-8, control
characters and lone surrogates in a text, NaN, NULs after the end. A key that comes twice keeps all its values
(`Several`), so that whoever needs it sees whether they agree. Numbers keep their exact value; what is no number that
anybody means comes out as a `Decimal` NaN, which no reader takes for one. What the values mean, the readers decide.
"""

import json
from decimal import Decimal, InvalidOperation

NUMBER_MAX_CHARACTERS = 30
"""The longest number ever seen is a date of 14 digits; a few hundred digits only cost time."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_NUMBER = Decimal("NaN")


class NotJson(ValueError):
    """The text is no JSON; the message says why and quotes nothing."""


class Several(tuple[object, ...]):
    """The values of a key that came more than once, in their order."""


def read_json(body: bytes) -> object:
    """The value, with numbers as int or Decimal; raises `NotJson` and nothing else."""
    text = body.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\0").decode("utf-8", "replace")
    try:
        value: object = json.loads(
            text,
            strict=False,
            object_pairs_hook=_keeping_all,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_no_number,
        )
    except RecursionError as error:
        raise NotJson("nested too deeply") from error
    except ValueError as error:
        raise NotJson("not JSON") from error
    return value


def _keeping_all(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for key in found:
            values = [value for name, value in pairs if name == key]
            if len(values) > 1:
                found[key] = Several(values)
    return found


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text) if len(text) <= NUMBER_MAX_CHARACTERS else _NO_NUMBER
    except InvalidOperation:
        # An exponent beyond what decimal can hold.
        return _NO_NUMBER


def _integer(text: str) -> int | Decimal:
    # Nobody means -0, and as a number it would be the code that says "paid".
    return int(text) if len(text) <= NUMBER_MAX_CHARACTERS and text != "-0" else _NO_NUMBER


def _no_number(_name: str) -> Decimal:
    return _NO_NUMBER
