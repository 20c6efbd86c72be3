"""The first access token of a process: the proof that Daraja takes our credentials, had before payments are asked for.

Without it the first payments after a start would wait for a token, and wrong credentials would be met by a passenger
first. A token that another process has fetched counts. Credentials that Daraja refuses at the start are for the caller
of `ask` to refuse. A Daraja that is away refuses nothing: such a process takes callbacks, says that it is not ready for
payments, and asks again until it is.

Only the first token decides. A process whose Daraja goes away later stays ready: to take it out of service would help
nobody, since every other process has the same Daraja.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
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
    """Whether this process has had a token yet."""

    tokens: AccessToken
    had: asyncio.Event = field(default_factory=asyncio.Event)
    alarm: LastingAlarm = field(default_factory=lambda: LastingAlarm(NO_FIRST_TOKEN))

    @property
    def problem(self) -> str | None:
        """Why this process is not ready for payments, as far as Daraja goes."""
        return None if self.had.is_set() else "Daraja has given no access token yet"

    async def ask(self) -> None:
        """Ask once. Raises CredentialsRefused; whatever else keeps the token away is told once, as an alarm."""
        try:
            await get_token(self.tokens)
        except CredentialsRefused:
            raise
        except NoAccessToken as error:
            self.alarm.set(True, why=str(error), daraja=self.tokens.daraja.base_url)
        else:
            self.had.set()
            self.alarm.set(False)

    async def had_or_after(self, seconds: float) -> None:
        """Wait for so long, or until the first token is there."""
        if self.had.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.had.wait()


@contextlib.asynccontextmanager
async def asking_until_had(first: FirstToken) -> AsyncIterator[None]:
    """Go on asking beside the block, until there is a token."""

    async def go_on() -> None:
        wait = ASK_AGAIN_SECONDS
        while not first.had.is_set():
            await asyncio.sleep(wait)
            wait = min(2 * wait, ASK_AGAIN_MAX_SECONDS)
            # The process serves by now: that its credentials are wrong is an alarm of its own, and no reason to end.
            with contextlib.suppress(CredentialsRefused):
                await first.ask()

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(go_on())
        yield
        asking.cancel()
