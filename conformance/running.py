"""What a case is, and how all of them are run.

Cases that do not disturb each other share one installation and run at the same time. Those that pull a plug have
another to themselves, one after the other, beside the first group. A case is over when it has seen what it waits for,
or when it has not within its bound, and that is a failure.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from conformance.account import Seen
from conformance.caller import refusal_of
from conformance.installation import Installation, running_installation
from development.postgres import EmbeddedServer, embedded_postgres
from development.slowness import slowness

# Several times what the longest case takes.
CASE_SECONDS = 150.0 * slowness()
# More at once would only wait for each other, on two cores.
TOGETHER = 8
# Cases that run beside others must not wait for each other's queries. Those that run alone have few.
MANY_QUERIES: Mapping[str, str] = {"PAYMENTS_QUERIES_PER_MINUTE": "6000"}
# What a case loses on purpose must not be found again by another way than the one that it tries.
NO_BOOKS: Mapping[str, str] = {"PAYMENTS_PULL_NOMINATED_NUMBER": ""}

Play = Callable[[Installation], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. Its title is the name of its function, and what is done the docstring."""

    play: Play
    alone: bool

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
    DECLARED.append(Case(play, alone=False))
    return play


def case_alone(play: Play) -> Play:
    """Declare a case that kills, stops or starves something, and needs an installation to itself."""
    DECLARED.append(Case(play, alone=True))
    return play


async def run_cases(folder: Path, cases: Sequence[Case], report: Report) -> list[Result]:
    """Run the cases, with all data below a new folder: one result each, in order, and one of the check at the end.

    `report` is told of every result as it comes.
    """
    together = [one for one in cases if not one.alone]
    alone = [one for one in cases if one.alone]
    async with embedded_postgres(folder / "postgres") as server:
        groups = await asyncio.gather(
            _run_group(folder / "together", server, MANY_QUERIES, together, TOGETHER, report),
            _run_group(folder / "alone", server, NO_BOOKS, alone, 1, report),
        )
    results = {one: result for group, _ in groups for one, result in group.items()}
    checked = _checked([broken for group, broken in groups if group])
    report(checked)
    return [*(results[one] for one in cases), checked]


async def _run_group(
    folder: Path,
    server: EmbeddedServer,
    settings: Mapping[str, str],
    cases: Sequence[Case],
    at_once: int,
    report: Report,
) -> tuple[dict[Case, Result], str]:
    """Results by case, and what the check at the end found to be broken."""
    results: dict[Case, Result] = {}
    if not cases:
        return results, ""
    places = asyncio.Semaphore(at_once)
    async with running_installation(folder, server, settings) as where:

        async def run_one(one: Case) -> None:
            async with places:
                results[one] = await _played(one, where)
                report(results[one])

        await asyncio.gather(*(run_one(one) for one in cases))
        return results, await where.what_is_broken()


async def _played(one: Case, where: Installation) -> Result:
    began = time.monotonic()
    seen, why_not = Seen("", ""), ""
    try:
        async with asyncio.timeout(CASE_SECONDS):
            if one.alone:
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
