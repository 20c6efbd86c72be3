"""How a running process comes by new keys: it follows its files, and tells the others what it holds.

A key is used for what is new only once every process can read what it makes. So each tells the database every few
seconds which keys it holds, and `payment-service keys use` refuses while one lacks the key.
"""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import KEY_FILES_UNUSABLE
from payment_service.application.rekeying.held_keys import held_by_service
from payment_service.config import PaymentSettings
from payment_service.credentials import Credentials, open_keys
from payment_service.database import check_keys, remember_keys
from payment_service.security.keys import Keys
from payment_service.store.key_checks import KeyName
from payment_service.store.key_holders import retired_keys, tell_keys
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.followed_keys import FollowedKeys, name_of_process
from runtime.key_rings import KeyRing
from runtime.serving import StartRefused


@dataclass(frozen=True, slots=True)
class FollowingTools:
    """The keys that this process goes by, and their files."""

    engine: AsyncEngine
    credentials: Credentials
    own: FollowedKeys[Keys]
    callback: FollowedKeys[CallbackKeys]
    holder: str = field(default_factory=lambda: name_of_process("payment-service"))


def following_tools(settings: PaymentSettings, credentials: Credentials, engine: AsyncEngine) -> FollowingTools:
    """For the files that the settings name."""
    return FollowingTools(
        engine=engine,
        credentials=credentials,
        own=FollowedKeys(settings.keys_file, open_keys, KEY_FILES_UNUSABLE),
        callback=FollowedKeys(settings.callback_keys_file, load_callback_keys, KEY_FILES_UNUSABLE),
    )


async def tell_held_keys(tools: FollowingTools) -> None:
    """Tell the others which keys this process holds."""
    async with tools.engine.begin() as conn:
        await tell_keys(conn, tools.holder, held_by_service(tools.credentials.keys, tools.credentials.callback_keys))


async def follow_keys(tools: FollowingTools) -> None:
    """Take what the files of keys hold now, and tell the others."""

    async def take_own(keys: Keys) -> None:
        await _refuse_loss(tools, tools.credentials.keys.rings, keys.rings)
        await check_keys(tools.engine, keys)
        await remember_keys(tools.engine, keys)
        tools.credentials.keys.renew(keys)

    async def take_callback(keys: CallbackKeys) -> None:
        await _refuse_loss(tools, {"callback": tools.credentials.callback_keys}, {"callback": keys})
        tools.credentials.callback_keys.renew(keys)

    await tools.own.look(take_own)
    await tools.callback.look(take_callback)
    await tell_held_keys(tools)


async def _refuse_loss(tools: FollowingTools, held: dict[str, KeyRing], found: dict[str, KeyRing]) -> None:
    """StartRefused for a file without a key that is held and not given up: an older copy, which reads less."""
    lost: list[KeyName] = [
        (purpose, key_id) for purpose, ring in held.items() for key_id in ring.keys.keys() - found[purpose].keys.keys()
    ]
    if not lost:
        return
    async with tools.engine.connect() as conn:
        lost = sorted(set(lost) - await retired_keys(conn, lost))
    if lost:
        names = ", ".join(f"{purpose} {key_id!r}" for purpose, key_id in lost)
        raise StartRefused(
            f"The file lacks keys that this process holds and that are not retired ({names}): put the newest copy of"
            " the file in its place."
        )
