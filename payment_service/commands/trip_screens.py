"""What an operator sees of a trip that is refunded: before it, while it runs, and after it. No number is in clear."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from payment_service.commands.trip_plan import Float, Passenger, Standing, Sum, sum_of

AGAIN: Final = "Start it again with the same words: nobody is refunded twice."

_SAID: Final = {
    Standing.TO_REFUND: "to be refunded",
    Standing.UNDER_WAY: "under way",
    Standing.DONE: "refunded",
    Standing.FAILED: "failed, and asked for again",
    Standing.RETURNED: "returned already, otherwise",
    Standing.MAY_STILL_PAY: "may still be paid",
    Standing.NOT_POSSIBLE: "cannot be refunded from here",
}


_WITH_WHY: Final = (Standing.MAY_STILL_PAY, Standing.NOT_POSSIBLE)
"""Those of which nothing goes back, as things stand."""


def plan_lines(what: str, trip: Sequence[Passenger]) -> Iterator[str]:
    """How a trip stands before anything is sent: how many, how much, and what cannot go back, with the reason."""
    yield what
    callers = ", ".join(sorted({one.caller for one in trip if one.caller}))
    if callers:
        yield f"  caller: {callers}"
    yield from _sums(trip, _SAID)
    yield from _barred(trip)


def float_lines(floats: Mapping[str, Float], left_out: Sum) -> Iterator[str]:
    """What there is to pay the refunds from, and how many it does not pay for."""
    for one in dict.fromkeys(floats.values()):
        said = f"KES {one.available:,}" if one.available is not None else f"not known. {one.problem}"
        yield f"  float of {one.shortcode}: {said}"
    if left_out.bookings:
        yield f"  not covered by the float, and left: {left_out.bookings}, {_money(left_out)}"


def passenger_lines(trip: Sequence[Passenger]) -> Iterator[str]:
    """Each booking with how its money stands."""
    for one in trip:
        money = f"  KES {one.amount} to {one.masked_phone}" if one.masked_phone else ""
        code = f", code {one.code}" if one.code else ""
        why = f"  {one.why}" if one.why else ""
        yield f"{_where(one)}{money}  {one.standing.value}{code}{why}"
    yield progress_line(trip)


def question(to_send: Sum, reason: str) -> str:
    """What an operator is asked once."""
    fee = f", and keep KES {to_send.fee:,}" if to_send.fee else ""
    return f'Send {_money(to_send)} back to {to_send.bookings} passengers{fee}, because "{reason}"?'


def progress_line(trip: Sequence[Passenger]) -> str:
    """How far it is."""
    counted = {one: sum_of(trip, one).bookings for one in Standing}
    to_come = counted[Standing.TO_REFUND]
    failed = f", {counted[Standing.FAILED]} failed" if counted[Standing.FAILED] else ""
    return f"{counted[Standing.DONE]} refunded, {counted[Standing.UNDER_WAY]} under way, {to_come} to come{failed}"


def report_lines(trip: Sequence[Passenger], stopped: str) -> Iterator[str]:
    """How a trip stands after a run."""
    if stopped:
        yield f"Stopped: {stopped}"
    yield from _sums(trip, _SAID | {Standing.TO_REFUND: "left", Standing.FAILED: "failed"})
    yield from (
        f"  {_where(one)}  KES {one.amount}, code {one.code or 'none'}"
        for one in trip
        if one.standing is Standing.FAILED
    )
    yield from _barred(trip)
    if sum_of(trip, Standing.TO_REFUND, Standing.FAILED).bookings:
        yield AGAIN
    if sum_of(trip, Standing.UNDER_WAY).bookings:
        yield "What is under way ends by itself: `payment-service refunds show` says how, or the same command again."


def as_json(trip: Sequence[Passenger], floats: Mapping[str, Float], stopped: str) -> str:
    """The same for programs."""
    sums = {one: sum_of(trip, one) for one in Standing}
    return json.dumps(
        {
            "stopped": stopped,
            "floats": [
                {"shortcode": one.shortcode, "available_kes": one.available, "problem": one.problem}
                for one in floats.values()
            ],
            "sums": {one.value: {"bookings": of.bookings, "amount_kes": of.amount} for one, of in sums.items()},
            "bookings": [
                {
                    "line": one.listed.line,
                    "booking_id": one.listed.booking_id,
                    "state": one.standing.value,
                    "amount_kes": one.amount,
                    "fee_kes": one.fee,
                    "payment_id": one.payment_id,
                    "caller": one.caller,
                    "shortcode": one.shortcode,
                    "masked_phone": one.masked_phone,
                    "provider_result_code": one.code,
                    "why": one.why,
                }
                for one in trip
            ],
        },
        indent=2,
    )


def _sums(trip: Sequence[Passenger], said: dict[Standing, str]) -> Iterator[str]:
    for standing, words in said.items():
        found = sum_of(trip, standing)
        if found.bookings:
            money = f", {_money(found)}" if found.amount else ""
            fee = f", and KES {found.fee:,} kept as a fee" if found.fee else ""
            yield f"  {words}: {found.bookings}{money}{fee}"


def _barred(trip: Sequence[Passenger]) -> Iterator[str]:
    for one in trip:
        if one.standing in _WITH_WHY:
            yield f"  {_where(one)}  {one.why}"


def _where(one: Passenger) -> str:
    line = f"line {one.listed.line}  " if one.listed.line else ""
    return f"{line}{one.listed.booking_id}"


def _money(found: Sum) -> str:
    return f"KES {found.amount:,}"
