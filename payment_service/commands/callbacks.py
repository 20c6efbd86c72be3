"""The operators' command that writes: one callback applied again, through the one writer there is, and noted."""

import asyncio
import contextlib
from functools import partial
from uuid import UUID

from rich.console import Console

from payment_service.application.recording import record_facts
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.recording_tools import RecordingTools
from payment_service.application.settling.apply_kept_callbacks import CallbackNotFound, InboxTools, replay_callback
from payment_service.commands.account import account
from payment_service.commands.inspect import no_callback
from payment_service.commands.screens import show_replayed
from payment_service.config import TimedSettings
from payment_service.credentials import open_keys
from payment_service.database import check_database, check_keys
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_writer, read_engine
from runtime.redaction import redact_text
from runtime.serving import StartRefused

REASON_MAX = 200
"""Characters: a sentence and a ticket's number."""


async def replay(settings: TimedSettings, callback_id: UUID, reason: str, console: Console) -> None:
    """Replay a callback and show what came of it; StartRefused where it cannot be done."""
    if not 0 < len(reason.strip()) <= REASON_MAX:
        raise StartRefused(f"--reason has to say why, in at most {REASON_MAX} characters.")
    keys, url = open_keys(settings.keys_file), settings.database_url.get_secret_value()
    sealer, clock = Sealer(keys), DatabaseClock()
    recording = RecordingTools(sealer, keys.chain, keys.fingerprint, clock, settings.times)
    facts: GroupCommit[Submission, Recorded] = GroupCommit(
        "replay",
        partial(connect_writer, url, autocommit=True),
        partial(record_facts.record_facts, recording),
        # The running services find the events as those of any other process.
        lambda: None,
    )
    engine = read_engine(url)
    writing = asyncio.create_task(facts.run())
    try:
        await check_database(engine)
        await check_keys(engine, keys)
        tools = InboxTools(engine, facts, sealer, clock)
        recorded = await replay_callback(tools, callback_id, account(), redact_text(reason.strip()))
    except CallbackNotFound:
        raise no_callback(callback_id) from None
    except StartRefused:
        raise
    except Exception as error:
        why = redact_text(str(error).strip().partition("\n")[0])
        raise StartRefused(
            f"Callback {callback_id} could not be applied ({type(error).__name__}: {why}). It is still there."
        ) from error
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        await engine.dispose()
    show_replayed(console, callback_id, recorded)
