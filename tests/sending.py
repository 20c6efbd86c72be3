"""What a process sends prompts with, for tests that reach no Safaricom."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from payment_service.application.calling.access_token import AccessToken
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.collecting.prompt_switch import check_prompts_allowed
from payment_service.application.collecting.send_prompt import SendTools
from payment_service.daraja.client import open_daraja
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp
from payment_service.store.engines import read_engine
from runtime.callback_tokens import CallbackKeys
from tests.writers import Writers

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""
SHORTCODE = "174379"
APP = DarajaApp("app", "key", "secret", (SHORTCODE,))
CALLBACK_KEYS = CallbackKeys("a1", {"a1": b"1" * 32, "b2": b"2" * 32})


@contextlib.asynccontextmanager
async def sending(writers: Writers, database_url: str) -> AsyncIterator[SendTools]:
    """The tools of one process; it holds no token and no turn."""
    engine = read_engine(database_url)
    async with open_daraja(NOBODY, writers.clock) as daraja:
        keep = partial(keep_exchange, engine, writers.sealer)
        yield SendTools(
            facts=writers.facts,
            safaricom=Safaricom(
                daraja=daraja,
                tokens={SHORTCODE: AccessToken(APP, engine, daraja, writers.sealer, writers.clock, keep)},
                shortcodes={SHORTCODE: Shortcode(SHORTCODE, ShortcodeKind.PAYBILL, "passkey")},
                sealer=writers.sealer,
                clock=writers.clock,
            ),
            budget=RequestBudget("push", 50, engine, writers.clock),
            callback_keys=CALLBACK_KEYS,
            callback_base_url=NOBODY,
            times=writers.times,
            check_allowed=partial(check_prompts_allowed, engine),
        )
    await engine.dispose()
