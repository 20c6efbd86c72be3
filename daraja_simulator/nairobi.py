"""Time as Daraja writes it: mostly fourteen digits of Nairobi time, which is UTC+3 all year, and six other forms."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

NAIROBI_AHEAD_SECONDS: Final = 3 * 3600.0
"""Of UTC."""
NAIROBI: Final = timezone(timedelta(seconds=NAIROBI_AHEAD_SECONDS), "EAT")


def timestamp(at: float) -> str:
    """YYYYMMDDHHMMSS in Nairobi for a Unix time."""
    return _second(int(at))[0]


def day_first_timestamp(at: float) -> str:
    """DDMMYYYYHHMMSSmmm in Nairobi, as inside a CheckoutRequestID."""
    return f"{_second(int(at))[1]}{int(at % 1 * 1000):03d}"


def dotted_timestamp(at: float) -> str:
    """DD.MM.YYYY HH:MM:SS in Nairobi, as in some results."""
    return datetime.fromtimestamp(int(at), NAIROBI).strftime("%d.%m.%Y %H:%M:%S")


def spaced_timestamp(at: float) -> str:
    """YYYY-MM-DD HH:MM:SS in Nairobi, as a pull is asked for."""
    return datetime.fromtimestamp(int(at), NAIROBI).strftime("%Y-%m-%d %H:%M:%S")


def zulu_timestamp(at: float) -> str:
    """YYYY-MM-DDTHH:MM:SSZ in UTC, as in a pulled row."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def offset_timestamp(at: float) -> str:
    """YYYY-MM-DDTHH:MM:SS+03:00, as in some pulled rows."""
    return datetime.fromtimestamp(int(at), NAIROBI).isoformat()


def fraction_timestamp(at: float) -> str:
    """YYYY-MM-DDTHH:MM:SS.mmmZ in UTC, as in some pulled rows."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def spaced_unix_time(text: str) -> float | None:
    """The Unix time of YYYY-MM-DD HH:MM[:SS] in Nairobi; None when the text is neither."""
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=NAIROBI).timestamp()
    return None


# Thousands of pushes share a second, and writing one out is slow.
@lru_cache(maxsize=64)
def _second(at: int) -> tuple[str, str]:
    moment = datetime.fromtimestamp(at, NAIROBI)
    return moment.strftime("%Y%m%d%H%M%S"), moment.strftime("%d%m%Y%H%M%S")


# For the same reason.
@lru_cache(maxsize=64)
def unix_time(text: str) -> float | None:
    """The Unix time of a YYYYMMDDHHMMSS Nairobi timestamp; None when the text is not one."""
    if len(text) != 14 or not (text.isascii() and text.isdigit()):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=NAIROBI).astimezone(UTC).timestamp()
    except ValueError:
        return None
