"""A list of bookings in a file: CSV with the one column `booking_id`. All that is wrong with it is named, by line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.serving import StartRefused

COLUMN: Final = "booking_id"
BYTES_MAX = 1_048_576
BOOKINGS_MAX = 5_000
"""A trip has some hundreds; more than that in one file is another list."""
PROBLEMS_SHOWN = 20
SHOWN_MAX = 80
"""Characters of a value of the file that are shown."""


@dataclass(frozen=True, slots=True)
class ListedBooking:
    """A booking, and the line that it stands on; 0 where it is in no file."""

    line: int
    booking_id: str


class ListRefused(StartRefused):
    """Something is wrong with the list, so nothing of it is done. Made of (line, what is wrong)."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        shown = problems_shown(problems)
        super().__init__("\n".join(["Nothing was started, because of these lines of the file:", *shown]))


def problems_shown(problems: Sequence[tuple[int, str]]) -> list[str]:
    """What is wrong with which line, up to a page of it."""
    shown = [f"line {line}: {what}" for line, what in sorted(problems)[:PROBLEMS_SHOWN]]
    more = len(problems) - len(shown)
    return [*shown, f"and {more} more"] if more > 0 else shown


def harmless(text: str) -> str:
    """What a file says, or is called, fit to be shown: a terminal acts on control characters, and gets none."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _shown(value: str) -> str:
    return harmless(value[:SHOWN_MAX]) + ("…" if len(value) > SHOWN_MAX else "")


def load_bookings(path: Path) -> list[ListedBooking]:
    """The bookings of a file, in its order; StartRefused where it cannot be read or is no such list."""
    named = f"--file {harmless(str(path))}"
    try:
        with path.open("rb") as file:
            body = file.read(BYTES_MAX + 1)
        text = body.decode("utf-8-sig")
    except OSError as error:
        raise StartRefused(f"{named} cannot be read: {error.strerror or type(error).__name__}.") from None
    except UnicodeDecodeError:
        raise StartRefused(f"{named} is no text in UTF-8: save the list as CSV in UTF-8.") from None
    if len(body) > BYTES_MAX:
        raise StartRefused(f"{named} is larger than {BYTES_MAX} bytes: give one trip at a time.")
    return parse_bookings(text)


def parse_bookings(text: str) -> list[ListedBooking]:
    """The bookings, in the order of the list. Raises ListRefused with everything that is wrong."""
    rows = list(_rows(text))
    if not rows:
        raise ListRefused([(1, f"expected the heading {COLUMN}, and one booking on each line below it")])
    (first, heading), *bookings = rows
    if heading != [COLUMN]:
        # A column that we left out, such as an amount, would pass for one that we go by.
        found = _shown(", ".join(heading))
        raise ListRefused([(first, f"expected the heading {COLUMN} and no other column, found {found}")])
    if not bookings:
        raise ListRefused([(first, "expected one booking on each line below the heading, found none")])
    if len(bookings) > BOOKINGS_MAX:
        raise ListRefused([(bookings[BOOKINGS_MAX][0], f"expected at most {BOOKINGS_MAX} bookings in one file")])
    problems: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    for line, values in bookings:
        booking_id = values[0]
        if len(values) > 1:
            problems.append((line, f"expected one value, found {len(values)}"))
        elif booking_id in seen:
            problems.append((line, f"booking {_shown(booking_id)} stands on line {seen[booking_id]} already"))
        else:
            seen[booking_id] = line
    if problems:
        raise ListRefused(problems)
    return [ListedBooking(line, booking_id) for booking_id, line in seen.items()]


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that say something, with the line on which each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                yield reader.line_num, values
    except csv.Error as error:
        raise ListRefused([(reader.line_num, f"expected CSV: {error}")]) from None
