"""The first access token of each Daraja app: the proof that Daraja takes its credentials, before any payment needs it.

Without it the first payments after a start would wait for a token, and wrong credentials would be met by a passenger
first. A token that another process has fetched counts. Credentials that Daraja refuses at the start are for the caller
of `ask` to refuse. A Daraja that is away refuses nothing: such a process takes callbacks, says that it is not ready for
payments, and asks again until it is.

A process with several apps is ready for payments once one of them has its first token. The payments of another app wait
meanwhile, as in any outage of Safaricom's, and an alarm names its shortcodes: nothing is gained by turning away those
that can be taken.

Only the first token decides. A process whose Daraja goes away later stays ready: to take it out of service would help
nobody, since every other process has the same Daraja.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from payment_service.alarms import NO_FIRST_TOKEN
from payment_service.application.calling.access_token import (
    AccessToken,
    CredentialsRefused,
    NoAccessToken,
    get_token,
)
from runtime.alarms import LastingAlarm

ASK_AGAIN_SECONDS = 1.0
"""From the first request that brought no token to the next; doubled with each one more."""
ASK_AGAIN_MAX_SECONDS = 10.0


@dataclass(slots=True)
class FirstToken:
    """Whether this process has had a token of an app yet."""

    tokens: AccessToken
    had: asyncio.Event = field(default_factory=asyncio.Event)
    alarm: LastingAlarm = field(default_factory=lambda: LastingAlarm(NO_FIRST_TOKEN))

    async def ask(self) -> None:
        """Ask once. Raises CredentialsRefused; whatever else keeps the token away is told once, as an alarm."""
        try:
            await get_token(self.tokens)
        except CredentialsRefused:
            raise
        except NoAccessToken as error:
            self.alarm.set(
                True, why=str(error), daraja=self.tokens.daraja.base_url, shortcodes=self.tokens.app.shortcodes
            )
        else:
            self.had.set()
            self.alarm.set(False, shortcodes=self.tokens.app.shortcodes)


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """The first token of each app that this process calls Daraja as."""

    of_apps: Sequence[FirstToken]

    @property
    def problem(self) -> str | None:
        """Why this process is not ready for payments, as far as Daraja goes."""
        had = any(first.had.is_set() for first in self.of_apps)
        return None if had else "Daraja has given no access token yet"

    @property
    def shortcodes_waiting(self) -> list[str]:
        """Those whose app has no token yet."""
        return [number for first in self.of_apps if not first.had.is_set() for number in first.tokens.app.shortcodes]

    async def one_more_or_after(self, seconds: float) -> None:
        """Wait for so long, or until one more app has its first token."""
        waits = [asyncio.create_task(first.had.wait()) for first in self.of_apps if not first.had.is_set()]
        if not waits:
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@contextlib.asynccontextmanager
async def asking_until_had(firsts: FirstTokens) -> AsyncIterator[None]:
    """Go on asking beside the block, until each app has its token."""

    async def go_on(first: FirstToken) -> None:
        wait = ASK_AGAIN_SECONDS
        while not first.had.is_set():
            await asyncio.sleep(wait)
            wait = min(2 * wait, ASK_AGAIN_MAX_SECONDS)
            # The process serves by now: that its credentials are wrong is an alarm of its own, and no reason to end.
            with contextlib.suppress(CredentialsRefused):
                await first.ask()

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(go_on(first)) for first in firsts.of_apps]
        yield
        for one in asking:
            one.cancel()
