"""Which keys a process tells that it holds: ids and check values, never a key."""

from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.security.keys import Keys
from payment_service.store.key_holders import HeldKeys, Holder, tell_keys
from runtime.callback_tokens import CallbackKeys, key_checks

CALLBACK = "callback"
"""The purpose of the keys that callback URLs are made with. Gateways hold them as well, in a file of their own."""


def held_by_service(keys: Keys, callback_keys: CallbackKeys) -> HeldKeys:
    """What a process of this service tells."""
    checks: dict[str, dict[str, str]] = {}
    for (purpose, key_id), check in keys.checks().items():
        checks.setdefault(purpose, {})[key_id] = check.hex()
    own = {purpose: (ring.current_id, checks[purpose]) for purpose, ring in keys.rings.items()}
    return {**own, CALLBACK: (callback_keys.current_id, _in_hex(key_checks(callback_keys)))}


async def tell_of_gateway(engine: AsyncEngine, process: str, checks: Mapping[str, bytes]) -> None:
    """Keep which keys a gateway holds. It makes no callback URL, so it uses none of them."""
    async with engine.begin() as conn:
        await tell_keys(conn, process, {CALLBACK: ("", _in_hex(checks))})


def lacking(holders: Iterable[Holder], purpose: str, key_id: str, check: str) -> list[str]:
    """The processes that go by keys of this purpose, and do not hold this one."""
    return [one.holder for one in holders if purpose in one.keys and one.keys[purpose][1].get(key_id) != check]


def using(holders: Iterable[Holder], purpose: str, key_id: str) -> list[str]:
    """The processes that make what is new with this key."""
    return [one.holder for one in holders if purpose in one.keys and one.keys[purpose][0] == key_id]


def _in_hex(checks: Mapping[str, bytes]) -> dict[str, str]:
    return {key_id: check.hex() for key_id, check in checks.items()}
