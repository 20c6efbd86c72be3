"""Our ids begin with the time at which they were made (UUID version 7), so a span of time is a range of ids."""

from datetime import datetime, timedelta
from uuid import UUID

MADE_WITHIN = timedelta(minutes=1)
"""Between the making of an id and the time that is recorded for it: clocks differ by seconds, and a row may wait."""


def first_id_at(moment: datetime) -> UUID:
    """The smallest id that can have been made at that time."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))
