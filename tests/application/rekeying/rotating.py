"""Processes that follow their key files, and the steps of an operator beside them."""

import contextlib
import io
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr
from rich.console import Console

from payment_service.alarms import KEY_FILES_UNUSABLE
from payment_service.config import KeySettings
from payment_service.credentials import Credentials, open_keys
from payment_service.followed_keys import FollowingTools
from payment_service.security.keys import Keys, load_keys
from payment_service.store.engines import read_engine
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.followed_keys import FollowedKeys, name_of_process
from runtime.key_rings import create_key_ring
from tests.databases import Database

Step = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Operator:
    """Whoever types `payment-service keys`."""

    database: Database
    folder: Path

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.json"

    @property
    def callback_keys_file(self) -> Path:
        return self.folder / "callback-keys.json"

    def keys(self) -> Keys:
        """What the file holds now."""
        return load_keys(self.keys_file)

    async def types(self, step: Step, *words: object) -> str:
        """One step, as the application's role; what it says."""
        return await self._run(self.database.application_url, step, *words)

    async def types_as_owner(self, step: Step, *words: object) -> str:
        """One step, as the owner of the database."""
        return await self._run(self.database.owner_url, step, *words)

    async def adds(self, step: Step, purpose: str) -> str:
        """A new key by the given step; its id."""
        before = self._ids(purpose)
        await self.types(step, purpose)
        (new,) = self._ids(purpose) - before
        return new

    async def time_passes(self, days: int = 3) -> None:
        """As if every key had last been used some days ago."""
        async with await psycopg.AsyncConnection.connect(self.database.owner_url) as owner:
            # Before any row: else this and a process that tells of its keys could each wait for a row of the other.
            await owner.execute("LOCK TABLE key_uses IN EXCLUSIVE MODE")
            await owner.execute("UPDATE key_uses SET last_used_at = last_used_at - make_interval(days => %s)", (days,))

    def _ids(self, purpose: str) -> set[str]:
        ring = load_callback_keys(self.callback_keys_file) if purpose == "callback" else self.keys().rings[purpose]
        return set(ring.keys)

    async def _run(self, database_url: str, step: Step, *words: object) -> str:
        settings = KeySettings(
            database_url=SecretStr(database_url),
            keys_file=self.keys_file,
            callback_keys_file=self.callback_keys_file,
        )
        said = io.StringIO()
        await step(settings, *words, Console(file=said, width=1_000))
        return said.getvalue()


def an_operator(database: Database, folder: Path) -> Operator:
    """Beside processes whose keys are in this folder."""
    create_key_ring(folder / "callback-keys.json")
    return Operator(database, folder)


@contextlib.asynccontextmanager
async def following(operator: Operator, keys: Keys | None = None) -> AsyncIterator[FollowingTools]:
    """What a process follows its files with; `keys` are those that it works with."""
    engine = read_engine(operator.database.application_url)
    credentials = Credentials(
        keys=keys or operator.keys(),
        callback_keys=load_callback_keys(operator.callback_keys_file),
        shortcodes={},
        accounts={},
    )
    own: FollowedKeys[Keys] = FollowedKeys(operator.keys_file, open_keys, KEY_FILES_UNUSABLE)
    callback: FollowedKeys[CallbackKeys] = FollowedKeys(
        operator.callback_keys_file, load_callback_keys, KEY_FILES_UNUSABLE
    )
    try:
        yield FollowingTools(engine, credentials, own, callback, name_of_process("payment-service"))
    finally:
        await engine.dispose()


def held(tools: FollowingTools) -> Mapping[str, str]:
    """The ids of the current keys that a process works with, by purpose."""
    return {purpose: ring.current_id for purpose, ring in tools.credentials.keys.rings.items()}
