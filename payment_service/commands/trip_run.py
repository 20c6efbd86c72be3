"""Sending a trip's money back through the service: a few at a time, to the end or until there is a reason to stop.

Nothing is kept here. What has been asked for is known to the service, by the payment; so this may die at any moment,
and run again, also twice at once: each payment is refunded once.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from payment_service.commands.asking import CALL_SECONDS, cause_of
from payment_service.commands.booking_list import ListedBooking, ListRefused, problems_shown
from payment_service.commands.trip_plan import (
    Float,
    Passenger,
    Standing,
    covered_by_now,
    passenger,
    refused,
    to_ask_for,
    why_to_stop,
)
from runtime.serving import StartRefused

LOOKS_AT_ONCE = 8
UNDER_WAY_MAX = 10
"""Refunds of a trip that wait for their result: so few stand before a passenger's own, and so few fail together when
the float is gone."""

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_WRONG_LINE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


@dataclass(frozen=True, slots=True)
class Act:
    """Who sends money back, of whose bookings, why, and what is kept of it."""

    operator: str = ""
    caller: str = ""
    """Whose bookings they are; empty where each can only be one caller's."""
    reason: str = ""
    fee_percent: int = 0
    payment_id: str = ""
    """Which payment of a booking; empty where only one holds money."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """How long a run waits for what, in seconds."""

    look: float = 0.5
    """Between two looks at those under way; a result takes 1 to 5 s."""
    result: float = 60.0
    """From asking for a refund until a run that has asked for all waits no more: the service asks M-Pesa about it."""
    held_up: float = 180.0
    """For which as many refunds as may be under way have no result, until the rest is not asked for."""
    away: float = 60.0
    """For which a service that does not answer is waited for: longer than a restart."""


TIMES = RunTimes()
AT_ONCE = RunTimes(away=0)
"""A first look: who has just typed the command is told at once that the service does not answer."""


@dataclass(slots=True)
class TripRun:
    """One run over a trip. `trip` is as it stands by now, in the order of the list."""

    stub: Any
    act: Act
    per_minute: int
    trip: dict[str, Passenger]
    """By booking."""
    wanted: Sequence[Passenger]
    """Those to be asked for, in the order of the list."""
    tell: Callable[[Sequence[Passenger]], None]
    times: RunTimes = TIMES
    stopped: str = ""
    """Why the rest is not asked for."""
    asked_at: dict[str, float] = field(default_factory=dict)
    """By booking, in the loop's time: those that have not ended, however long that takes."""
    ended: list[Passenger] = field(default_factory=list)

    async def go(self) -> None:
        """Ask for all that is to be asked for, and wait for the results; `stopped` says why where it ends sooner."""
        try:
            await self._go()
        except LinesWrong as error:
            # It knew them when the trip was looked at. Whoever answers now does not know what was asked for before.
            self.stopped = f"The payment service knows bookings of this trip no more: {error}."
        except StartRefused as error:
            self.stopped = str(error)
        except grpc.aio.AioRpcError:
            self.stopped = f"The payment service has not answered for {self.times.away:.0f} seconds."

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = [one.listed for one in self.wanted]
        self.asked_at = {b: loop.time() for b, one in self.trip.items() if one.standing is Standing.UNDER_WAY}
        turns, filled_at = 1.0, loop.time()
        while waiting or self._older_than(self.times.result) < len(self.asked_at):
            now = loop.time()
            turns, filled_at = min(UNDER_WAY_MAX, turns + (now - filled_at) * self.per_minute / 60), now
            while waiting and turns >= 1 and len(self.asked_at) < UNDER_WAY_MAX:
                turns -= 1
                await self._ask(waiting.pop(0))
            await asyncio.sleep(self.times.look)
            await self._look(list(self.asked_at))
            stop = why_to_stop(self.ended) or (self._held_up() if waiting else "")
            if stop:
                self.stopped, waiting = self.stopped or stop, []
            self.tell(list(self.trip.values()))

    def _older_than(self, seconds: float) -> int:
        """How many of those that have not ended were asked for so long ago."""
        now = asyncio.get_running_loop().time()
        return sum(asked_at + seconds <= now for asked_at in self.asked_at.values())

    def _held_up(self) -> str:
        """Why no other refund is to be asked for, where too many have no result; empty to go on."""
        held_up = self._older_than(self.times.held_up)
        if held_up < UNDER_WAY_MAX:
            return ""
        return (
            f"{held_up} refunds have had no result for {self.times.held_up:.0f} seconds."
            " M-Pesa may be disturbed, or the service cannot send: its alarms say which."
        )

    async def _ask(self, listed: ListedBooking) -> None:
        try:
            found = await look_at(self.stub, listed, self.act, only_look=False, times=self.times)
        except LineWrong as error:
            raise LinesWrong([(listed.line, str(error))]) from error
        self._note(found)
        if self.trip[listed.booking_id].standing is Standing.UNDER_WAY:
            self.asked_at[listed.booking_id] = asyncio.get_running_loop().time()

    async def _look(self, bookings: Sequence[str]) -> None:
        listed = [self.trip[booking].listed for booking in bookings]
        for found in await look_at_all(self.stub, listed, self.act, self.times):
            self._note(found)

    def _note(self, found: Passenger) -> None:
        booking = found.listed.booking_id
        self.trip[booking] = found
        if found.standing is not Standing.UNDER_WAY:
            self.asked_at.pop(booking, None)
            self.ended.append(found)


async def go_through(running: TripRun, floats: Mapping[str, Float]) -> list[Passenger]:
    """Run over a trip, and on over those whom the float pays for after all; those who were to be asked for and are not.

    No more goes back than the float had when it was looked at.
    """
    planned, further = list(running.trip.values()), list(running.wanted)
    asked: set[str] = set()
    while True:
        running.wanted = further
        asked |= {one.listed.booking_id for one in further}
        await running.go()
        now_covered = covered_by_now(planned, running.trip, floats)
        further = [one for one in now_covered if one.listed.booking_id not in asked]
        if running.stopped or not further:
            return [one for one in to_ask_for(planned) if one.listed.booking_id not in asked]


async def plan(stub: Any, bookings: Sequence[ListedBooking], act: Act) -> dict[str, Passenger]:
    """How the money of each booking stands, by booking. Raises ListRefused where a line names no payment."""
    try:
        found = await look_at_all(stub, bookings, act, AT_ONCE)
    except LinesWrong as error:
        raise ListRefused(error.problems) from error
    return {one.listed.booking_id: one for one in found}


async def floats_of(stub: Any, trip: Iterable[Passenger], act: Act) -> dict[str, Float]:
    """What the refunds of a trip can be paid from, by the shortcode that was paid; M-Pesa takes some seconds for it."""
    first_of = {one.shortcode: one for one in reversed(to_ask_for(trip))}
    found = {}
    for shortcode, one in sorted(first_of.items()):
        asked = pb.GetFloatRequest(payment_id=one.payment_id, for_parts=act.fee_percent > 0)
        answer: pb.GetFloatResponse = await stub.GetFloat(asked, timeout=CALL_SECONDS)
        available = answer.available.units if answer.HasField("available") else None
        found[shortcode] = Float(answer.shortcode, available, answer.problem)
    return found


async def look_at_all(stub: Any, bookings: Sequence[ListedBooking], act: Act, times: RunTimes) -> list[Passenger]:
    """How the money of each booking stands, in their order. Raises LinesWrong with every line that is wrong."""
    places = asyncio.Semaphore(LOOKS_AT_ONCE)
    wrong: list[tuple[int, str]] = []

    async def look(listed: ListedBooking) -> Passenger | None:
        async with places:
            try:
                return await look_at(stub, listed, act, only_look=True, times=times)
            except LineWrong as error:
                wrong.append((listed.line, str(error)))
                return None

    found = await asyncio.gather(*(look(listed) for listed in bookings))
    if wrong:
        raise LinesWrong(wrong)
    return [one for one in found if one is not None]


class LineWrong(Exception):
    """The service knows no such booking."""


class LinesWrong(Exception):
    """The service knows none of these bookings. Made of (line, what it says)."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(problems_shown(problems)))
        self.problems = problems


async def look_at(
    stub: Any, listed: ListedBooking, act: Act, *, only_look: bool, times: RunTimes = AT_ONCE
) -> Passenger:
    """How the money of one booking stands, once its refund is asked for unless it is only looked at."""
    asked = pb.RefundBookingRequest(
        booking_id=listed.booking_id,
        refund_reason=payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
        operator=act.operator,
        reason=act.reason,
        validate_only=only_look,
        fee_percent=act.fee_percent,
        caller=act.caller,
        payment_id=act.payment_id,
    )
    try:
        return passenger(listed, await _patiently(stub, asked, times))
    except grpc.aio.AioRpcError as error:
        said = error.details() or error.code().name
        match error.code():
            case grpc.StatusCode.FAILED_PRECONDITION:
                return refused(listed, cause_of(error), said)
            case grpc.StatusCode.ALREADY_EXISTS:
                # Somebody else asks for the same at this moment: it is one refund, and this looks what becomes of it.
                return await look_at(stub, listed, act, only_look=True, times=times)
            case code if code in _WRONG_LINE and (code is not grpc.StatusCode.INVALID_ARGUMENT or _about_line(said)):
                raise LineWrong(said) from error
            case code if code in _AWAY:
                raise
        raise StartRefused(said) from error


def _about_line(said: str) -> bool:
    """Of a request that cannot be used, only the booking comes from the list."""
    return said.startswith("booking_id:") and ";" not in said


async def _patiently(stub: Any, asked: pb.RefundBookingRequest, times: RunTimes) -> pb.RefundBookingResponse:
    """One call, made again while the service is away: what it asks for is asked for once."""
    loop = asyncio.get_running_loop()
    end = loop.time() + times.away
    while True:
        try:
            answer: pb.RefundBookingResponse = await stub.RefundBooking(asked, timeout=CALL_SECONDS)
            return answer
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AWAY or loop.time() >= end:
                raise
        await asyncio.sleep(times.look)
