"""What may never stand in a log line in clear, and how it is masked.

One place knows the shapes: phone numbers, CheckoutRequestIDs (they end in the payer's digits), callback tokens,
credentials, passwords in URLs. It works on whole log lines of nested values and on single texts, caps their length and
never raises, since it runs where errors are being reported. It errs on the side of masking: a masked order number is
a nuisance, a phone number in clear is a breach. UUIDs and 32-character trace ids pass, because lines are found by them.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

MASK = "[masked]"
# A line is read by people and shipped by agents that drop what is longer than some 16 KiB.
TEXT_MAX_CHARACTERS = 4_000
TRACEBACK_MAX_CHARACTERS = 12_000
ITEMS_MAX = 100
DEPTH_MAX = 6
KEY_MAX_CHARACTERS = 100

_SECRET_KEY = re.compile(r"phone|msisdn|token|passw|passkey|secret|authorization|credential|cookie|private_?key", re.I)

# A cheap first look: a text with none of these holds nothing that the full pattern masks. Plain substring tests are
# several times faster than the same words in one pattern, and this runs for every value of every line.
_SHORTEST_MASKED = 9
_DIGITS_OR_HEX = re.compile(r"\d[\d .()+-]{7}|[0-9a-fA-F]{33}")
_WORDS = ("ws_co", "/callbacks/", "://", "bearer", "basic", "passw", "passkey", "secret", "token", "authori")
# A secret that is masked or blanked already is taken whole, so that a text masked twice reads as one masked once.
_MASKED = r"\[[a-z]{1,16}\]"
# Every repetition that something must follow has a bound. Without it, a text that repeats its beginning is read to its
# end again and again, and 16,000 characters take seconds.
_SEPARATED_DIGITS = r"(?:[ .-]?\d)"
_MASKED_SHAPES = re.compile(
    rf"""
      (?P<keep> (?<![0-9a-z]) [0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}} (?![0-9a-z])
              | (?<![0-9a-z]) (?=[0-9]{{0,31}}[a-f]) [0-9a-f]{{32}} (?![0-9a-z]) )
    | (?P<callback> /callbacks/[a-z0-9_]{{1,16}}/[^/\s"'?\#]{{1,64}}/ ) (?:{_MASKED}|[^\s"',)\]}}])+
    | (?P<checkout> ws_co_ ) [0-9a-z_*]+
    | (?P<url> \b[a-z][a-z0-9+.-]{{1,30}}://[^\s:/@"']{{0,128}}: ) [^\s"']{{0,256}}(?=@)
    | (?P<scheme> \b(?:bearer|basic)\s{{1,8}} ) [0-9a-z._~+/=-]{{6,}}
    | (?P<named> (?:passw(?:or)?d|passkey|secret|token|authori[sz]ation)[a-z_]{{0,32}}["']?\s{{0,8}}[=:]\s{{0,8}}["']?
                 (?:(?:bearer|basic)\s{{1,8}})? ) (?:{_MASKED}|[^\s"'&,;)}}\]])+
    | (?<!\d) (?:\+?\s?254[ .-]?\(?0?\)?[ .-]?|0[ -]?) [17] {_SEPARATED_DIGITS}{{8}} (?!\d)
    | (?<![\w.-]) [17]\d{{8}} (?!\w|[.-]\d)
    | [0-9a-f]{{33,}}
    """,
    re.I | re.X,
)


def redact_line(line: Mapping[str, object]) -> dict[str, object]:
    """The line with everything secret masked, of plain JSON types only."""
    return {_redact_key(key): _redact_entry(key, value, 0) for key, value in islice(line.items(), ITEMS_MAX)}


def redact_text(text: str) -> str:
    """The text with everything secret masked; its length is not changed otherwise."""
    if len(text) < _SHORTEST_MASKED:
        return text
    lowered = text.lower()
    if _DIGITS_OR_HEX.search(text) or any(word in lowered for word in _WORDS):
        return _MASKED_SHAPES.sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    if match.lastgroup is None:
        return MASK
    return match[0] if match.lastgroup == "keep" else match[match.lastgroup] + MASK


def _redact_entry(key: object, value: object, depth: int) -> object:
    if _is_secret(key) and value is not None and not isinstance(value, bool):
        return MASK
    if key == "exception" and isinstance(value, str):
        # The end of a traceback says what went wrong.
        return redact_text(value)[-TRACEBACK_MAX_CHARACTERS:]
    return _redact_value(value, depth)


def _redact_value(value: object, depth: int) -> object:
    match value:
        case str():
            return _redact_capped(value)
        case None | bool():
            return value
        case int():
            return _redact_int(value)
        case float():
            return value if math.isfinite(value) else repr(value)
        case _ if depth >= DEPTH_MAX:
            return MASK
        case Mapping():
            entries = islice(value.items(), ITEMS_MAX)
            return {_redact_key(key): _redact_entry(key, item, depth + 1) for key, item in entries}
        case list() | tuple() | set() | frozenset():
            return [_redact_value(item, depth + 1) for item in islice(value, ITEMS_MAX)]
        case _:
            return _redact_capped(_as_text(value))


def _redact_int(value: int) -> object:
    if abs(value) < 10**8:
        return value
    # Daraja writes phone numbers as integers. More than 40 digits are no number that anyone meant to log.
    return value if abs(value) < 10**40 and redact_text(str(value)) == str(value) else MASK


def _redact_capped(text: str) -> str:
    if len(text) <= TEXT_MAX_CHARACTERS:
        return redact_text(text)
    # Redacted before it is cut: half a phone number at the cut would match nothing. Only four times the cap is looked
    # at, so that a megabyte of hostile text costs no more than a long line.
    head = redact_text(text[: 4 * TEXT_MAX_CHARACTERS])[:TEXT_MAX_CHARACTERS]
    return f"{head}… ({len(text)} characters)"


def _as_text(value: object) -> str:
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # A broken __repr__ must not cost the line it stands in.
        return f"<unprintable {type(value).__name__}>"


def _redact_key(key: object) -> str:
    return _plain_key(key[:KEY_MAX_CHARACTERS] if isinstance(key, str) else _as_text(key)[:KEY_MAX_CHARACTERS])


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _secret_name(key[:KEY_MAX_CHARACTERS])


# The names of fields repeat from line to line, so what they are is looked up, not found out.
@lru_cache(maxsize=1024)
def _plain_key(key: str) -> str:
    return redact_text(key)


@lru_cache(maxsize=1024)
def _secret_name(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None
