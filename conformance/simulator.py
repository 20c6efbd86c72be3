"""The simulator's control API: what phones do, what Daraja answers, and the ledger of all that happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from conformance.judgement import NotSo, until

# For a prompt that only the case itself ends: it stays open longer than any case takes, and no query tells of its end.
UNTIL_TOLD = {"callback": "never", "callback_delay_seconds": 3600, "queries": ["being_processed"] * 100}

# The phone's owner decides, and nobody tells: no callback comes, and the money is not in the books.
NO_NEWS = {"callback": "never", "pull": "never"}

_NUMBERS = itertools.count(1)


def a_number(ends: str = "") -> str:
    """A phone that no other case uses. It pays, or does what the simulator's table says of its last three digits."""
    number = next(_NUMBERS)
    return f"2547000{number % 100:02d}{ends}" if ends else f"25472{number:07d}"


@dataclass(frozen=True, slots=True)
class Simulator:
    """One simulated Daraja."""

    http: httpx.AsyncClient

    async def control(self, path: str, **body: Any) -> dict[str, Any]:
        """POST to the control API."""
        answer = await self.http.post(f"/control/{path}", json=body)
        if answer.status_code != 200:
            raise NotSo(f"the simulator does not take {path}: {answer.text}")
        return dict(answer.json())

    async def phone(self, *behaviours: Mapping[str, Any]) -> str:
        """A new phone, and what it does with its pushes in order; without any it pays."""
        number = a_number()
        if behaviours:
            await self.control(f"phones/{number}/script", behaviours=list(behaviours))
        return number

    async def shown(self, path: str, **narrowed_by: str) -> dict[str, Any]:
        """GET from the control API."""
        return dict((await self.http.get(f"/control/{path}", params=narrowed_by)).json())

    async def pushes(self, **narrowed_by: str) -> list[dict[str, Any]]:
        """The pushes of the ledger, oldest first."""
        return list((await self.shown("ledger", **narrowed_by))["pushes"])

    async def prompted(self, phone: str) -> dict[str, Any]:
        """The latest push that the phone has shown, as soon as there is one."""

        async def look() -> dict[str, Any] | None:
            return next((push for push in reversed(await self.pushes(phone=phone)) if push["prompted"]), None)

        return await until(look, "a prompt on the phone")

    async def pay_by_hand(self, phone: str, *, account: str, kes: int) -> str:
        """Pay Bill in the menu of a phone, as its page sends it; the receipt."""
        form = {"business": "174379", "account": account, "amount": str(kes), "pin": "1234"}
        origin = f"{self.http.base_url.scheme}://{self.http.base_url.netloc.decode()}"
        answer = await self.http.post(f"/phones/{phone}/pay-bill", data=form, headers={"Origin": origin})
        if answer.status_code != 303:
            raise NotSo(f"the phone does not pay by hand: {answer.text}")
        return str((await self.pushes(phone=phone))[-1]["receipt"])

    async def answered_about(self, receipt: str) -> None:
        """Wait until M-Pesa has been asked about a receipt, and has taken the question."""

        async def look() -> bool | None:
            heard = (await self.shown("requests"))["requests"]
            return any(f"'{receipt}'" in str(one["body"]) and one["status"] == 200 for one in heard) or None

        await until(look, "M-Pesa's answer about the receipt")

    async def hold_queries(self, phone: str) -> None:
        """Queries about the phone's pushes get no answer until they are let go."""
        await self.control(f"phones/{phone}/held", held=True)

    async def query_waits(self, phone: str) -> None:
        """Wait until a query about the phone's pushes is held."""

        async def look() -> bool | None:
            return int((await self.shown(f"phones/{phone}/held"))["waiting"]) > 0 or None

        await until(look, "a query")

    async def let_queries_go(self, phone: str) -> None:
        """Answer the queries that were held."""
        await self.control(f"phones/{phone}/held", held=False)

    async def settle(self, phone: str, **behaviour: Any) -> list[int | None]:
        """A new result for the phone's latest prompt, and its callback; the statuses that this was answered with."""
        answer = await self.control("callbacks/settle", phone=phone, **behaviour)
        return [callback["status"] for callback in answer["callbacks"]]

    async def resend(self, phone: str) -> list[int | None]:
        """The phone's last callback once more; the statuses that this was answered with."""
        answer = await self.control("callbacks/resend", phone=phone)
        return [callback["status"] for callback in answer["callbacks"]]

    async def shown_hits(self, quirk: str) -> int:
        """How often the simulator has shown one of its quirks."""
        quirks = (await self.shown("quirks"))["quirks"]
        return next(int(entry["hits"]) for entry in quirks if entry["id"] == quirk)

    async def count_becomes(self, name: str, wanted: Callable[[int], bool]) -> int:
        """A count of the simulator's (pushes, queries_asked, …), as soon as it is as wanted."""

        async def look() -> int | None:
            shown = await self.shown("totals")
            found = int({**shown["totals"], **shown}[name])
            return found if wanted(found) else None

        return await until(look, f"enough {name}")
