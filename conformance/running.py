"""What a case is, and how all of them are run.

Cases come in groups. A group has an installation of its own, with times of its own. Most groups run their cases at the
same time; those with cases that pull a plug run them one after the other. All installations are up before the first
case begins. A case is over when it has seen what it waits for, or when it has not within its bound, and that is a
failure.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from conformance.account import Seen
from conformance.caller import refusal_of
from conformance.installation import (
    SOON_ASKED,
    SOON_BACKED,
    SOON_GIVEN_UP,
    SOON_LEFT,
    Installation,
    running_installation,
)
from development.parts import Start
from development.postgres import EmbeddedServer, embedded_postgres
from development.slowness import slowness

# Several times what the longest case takes.
CASE_SECONDS = 150.0 * slowness()
# Cases that run beside others must not wait for each other's queries. Those that run alone have few.
MANY_QUERIES: Mapping[str, str] = {"PAYMENTS_QUERIES_PER_MINUTE": "6000"}
# What a case loses on purpose must not be found again by another way than the one that it tries.
NO_BOOKS: Mapping[str, str] = {"PAYMENTS_PULL_NOMINATED_NUMBER": ""}

Play = Callable[[Installation], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that share an installation.

    Times that differ need an installation of their own: a payment that is not sent at once may be sent by any process
    of its database, and then has the times of that process.
    """

    name: str
    settings: Mapping[str, str] = field(hash=False)
    at_once: int = 1
    """Cases at the same time; more would only wait for each other, on two cores. With 1 a case may pull any plug."""
    plaintext: bool = True
    """Whether everybody is believed to be who they say; else each caller and operator has a certificate."""


TOGETHER = Group("together", MANY_QUERIES, at_once=8)
ASKED_SOON = Group("asked_soon", {**MANY_QUERIES, **SOON_ASKED, **SOON_BACKED}, at_once=4)
# Its cases mostly wait.
GIVEN_UP_SOON = Group("given_up_soon", {**MANY_QUERIES, **NO_BOOKS, **SOON_ASKED, **SOON_GIVEN_UP}, at_once=10)
CERTIFICATES = Group("certificates", {**MANY_QUERIES, "PAYMENTS_APPROVAL_ABOVE_KES": "400"}, plaintext=False)
ALONE = Group("alone", {**NO_BOOKS, **SOON_LEFT})


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. Its title is the name of its function, and what is done the docstring."""

    play: Play
    group: Group

    @property
    def title(self) -> str:
        return self.play.__name__.replace("_", " ")

    @property
    def done(self) -> str:
        return inspect.cleandoc(self.play.__doc__ or "").replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Result:
    """How a case went; `why_not` is empty when it passed."""

    title: str
    done: str
    seen: Seen
    why_not: str
    seconds: float


Report = Callable[[Result], None]
DECLARED: list[Case] = []


def case(play: Play) -> Play:
    """Declare a case that runs beside others."""
    return _declare(play, TOGETHER)


def case_asked_soon(play: Play) -> Play:
    """Declare a case of prompts of which only a query tells."""
    return _declare(play, ASKED_SOON)


def case_given_up_soon(play: Play) -> Play:
    """Declare a case of payments that expire."""
    return _declare(play, GIVEN_UP_SOON)


def case_with_certificates(play: Play) -> Play:
    """Declare a case that needs an installation to itself, in which everybody shows a certificate of their own."""
    return _declare(play, CERTIFICATES)


def case_alone(play: Play) -> Play:
    """Declare a case that kills, stops or starves something, where what is lost is not found in the books."""
    return _declare(play, ALONE)


def _declare(play: Play, group: Group) -> Play:
    DECLARED.append(Case(play, group))
    return play


async def run_cases(folder: Path, cases: Sequence[Case], report: Report, start: Start) -> list[Result]:
    """Run the cases, with all data below a new folder: one result each, in order, and one of the check at the end.

    `report` is told of every result as it comes.
    """
    groups = dict.fromkeys(one.group for one in cases)
    all_up = asyncio.Barrier(len(groups))
    async with embedded_postgres(folder / "postgres") as server, asyncio.TaskGroup() as running:
        tasks = [
            running.create_task(
                _run_group(group, [one for one in cases if one.group == group], folder, server, start, all_up, report)
            )
            for group in groups
        ]
    played = [task.result() for task in tasks]
    checked = _checked([broken for _, broken in played])
    results = {one: result for group, _ in played for one, result in group.items()}
    report(checked)
    return [*(results[one] for one in cases), checked]


async def _run_group(
    group: Group,
    cases: Sequence[Case],
    folder: Path,
    server: EmbeddedServer,
    start: Start,
    all_up: asyncio.Barrier,
    report: Report,
) -> tuple[dict[Case, Result], str]:
    """Results, and what the check finds in all that the cases have left behind. Its programs end when it does."""
    results: dict[Case, Result] = {}
    places = asyncio.Semaphore(group.at_once)

    async def run_one(one: Case, where: Installation) -> None:
        async with places:
            results[one] = await _played(one, where)
            report(results[one])

    async with running_installation(
        folder / group.name, server, group.settings, plaintext=group.plaintext, start=start
    ) as where:
        await all_up.wait()
        await asyncio.gather(*(run_one(one, where) for one in cases))
        return results, await where.what_is_broken()


async def _played(one: Case, where: Installation) -> Result:
    began = time.monotonic()
    seen, why_not = Seen("", ""), ""
    try:
        async with asyncio.timeout(CASE_SECONDS):
            if one.group.at_once == 1:
                await where.mend()
            seen = await one.play(where)
    except grpc.aio.AioRpcError as error:
        why_not = f"a call was refused: {refusal_of(error).name}: {error.details()}"
    except TimeoutError:
        why_not = f"not over within {CASE_SECONDS:.0f} s"
    except Exception as error:
        # Whatever breaks a case, the others are still worth running.
        why_not = f"{type(error).__name__}: {error}"
    return Result(one.title, one.done, seen, why_not, time.monotonic() - began)


def _checked(broken: Sequence[str]) -> Result:
    said = "every promise holds for everything that is stored" if not any(broken) else ""
    done = "`payment-service check` over all that the cases have left behind"
    return Result("nothing is broken inside", done, Seen(said, ""), "\n".join(filter(None, broken)), 0.0)
