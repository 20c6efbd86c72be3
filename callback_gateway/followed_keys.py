"""How a running gateway comes by new keys: it follows its files, and tells the payment service what it holds.

New callback URLs are made with a key only once every gateway has told that it accepts it.
"""

import asyncio
from pathlib import Path
from typing import NoReturn

from callback_gateway.alarms import KEY_FILES_UNUSABLE
from callback_gateway.config import GatewaySettings
from callback_gateway.core_health import CoreHealth
from callback_gateway.spool import Spool
from callback_gateway.spool_folder import keys_needed, load_spool_keys
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.followed_keys import LOOK_SECONDS, FollowedKeys
from runtime.key_rings import KeyRing
from runtime.serving import StartRefused


async def follow_keys(settings: GatewaySettings, keys: CallbackKeys, spool: Spool | None, core: CoreHealth) -> NoReturn:
    """Take what the files of keys hold now and then, and tell the service, until cancelled."""
    callback = FollowedKeys(settings.callback_keys_file, load_callback_keys, KEY_FILES_UNUSABLE)
    of_spool = None
    if settings.spool_keys_file is not None:
        of_spool = FollowedKeys(settings.spool_keys_file, load_spool_keys, KEY_FILES_UNUSABLE)

    async def take(newer: CallbackKeys) -> None:
        keys.renew(newer)

    async def take_for_spool(newer: KeyRing) -> None:
        assert spool is not None, "without a spool its keys are not followed"
        ring = spool.folder.sealer.ring
        lost = ring.keys.keys() - newer.keys.keys()
        if lost and (needed := sorted(lost & await spool.on_disk(_keys_needed, spool.folder.path))):
            raise StartRefused(
                f"The file lacks keys that records in the spool are sealed with ({', '.join(needed)}): put the newest"
                " copy of the file in its place."
            )
        ring.renew(newer)

    while True:
        await callback.look(take)
        if spool is not None and of_spool is not None:
            await of_spool.look(take_for_spool)
        await core.look()
        await asyncio.sleep(LOOK_SECONDS)


def _keys_needed(folder: Path) -> set[str]:
    try:
        return set(keys_needed(folder))
    except OSError as error:
        raise StartRefused(
            f"Which keys the spool needs cannot be seen: {error.strerror} ({error.filename})."
        ) from error
