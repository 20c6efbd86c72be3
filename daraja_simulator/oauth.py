"""Access tokens: issuing one kills the one before of the same app ("Daraja: Authorization").

Decides whether a call carries the living token of the app that its shortcode belongs to, and in which of the recorded
forms it is told when not.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import string
import time
from hmac import compare_digest
from typing import Final

from aiohttp import web

from daraja_simulator.errors import ERRORS, Refusal
from daraja_simulator.fields import json_object, text_of
from daraja_simulator.settings import App
from daraja_simulator.world import LivingToken, World, json_answer, raw_answer

TOKEN_LENGTH: Final = 28
TOKEN_SECONDS: Final = 3599
_ALPHABET: Final = string.ascii_letters + string.digits

# What names the merchant of a call, the surest first: PartyA of a prompt is the phone.
_PARTIES: Final = ("BusinessShortCode", "ShortCode", "ReceiverParty", "PartyA")

_REFUSED: Final = {
    "token.refused_401_002_01": ERRORS["invalid_access_token_401_002"],
    "token.refused_400_003_01": ERRORS["invalid_access_token_400_003"],
    "token.refused_401_003_01": ERRORS["invalid_access_token_401_003"],
}


async def issue_token(world: World, request: web.Request) -> web.Response:
    """GET /oauth/v1/generate?grant_type=client_credentials with the consumer key and secret as Basic."""
    tokens = world.tokens
    tokens.issued += 1
    chosen = world.chosen_for("token", tokens.issued)
    await world.wait_latency("token", tokens.issued)
    if tokens.request_faults:
        fault = tokens.request_faults.popleft()
        world.hits["token.request_failed"] += 1
        return world.refuse(ERRORS[fault]) if isinstance(fault, str) else raw_answer(fault)
    if request.method != "GET":
        return world.refuse(ERRORS["method_not_allowed"])
    app = _app_that_asks(world, request.headers.get("Authorization", ""))
    if app is None:
        name = "empty_500" if chosen.take("token.empty_400") else "invalid_authentication"
        refusal = ERRORS[name]
        return world.refuse(Refusal(400, refusal.code, refusal.text, refusal.envelope))
    if request.query.get("grant_type") != "client_credentials":
        return world.refuse(ERRORS["invalid_grant"])
    token = "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))
    tokens.living[app.consumer_key] = LivingToken(token, time.monotonic() + TOKEN_SECONDS)
    seconds = 3600 if chosen.take("token.3600") else TOKEN_SECONDS
    lifetime: int | str = seconds if chosen.take("token.number") else str(seconds)
    return json_answer({"access_token": token, "expires_in": lifetime})


def refused_token(
    world: World, request: web.Request, content: bytes, usual: str = "invalid_access_token"
) -> Refusal | None:
    """Why this call is refused for its token; None when it carries the living one of the app whose shortcode it names.

    usual: the form of this path.
    """
    tokens = world.tokens
    if tokens.refusals:
        return ERRORS[tokens.refusals.popleft()]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return ERRORS["invalid_authentication_header"]
    living = tokens.living.get(world.settings.app_of(_party_in(content)).consumer_key)
    if living is not None and token == living.value and time.monotonic() < living.valid_until:
        return None
    chosen = world.chosen_for("token", "refused", tokens.issued, len(world.ledger.pushes))
    for quirk_id, refusal in _REFUSED.items():
        if chosen.take(quirk_id):
            return refusal
    return ERRORS[usual]


def expire_tokens(world: World) -> None:
    world.tokens.living.clear()
    world.hits["token.expired_early"] += 1


def _party_in(content: bytes) -> str:
    """The shortcode that a call is about, or its till; empty where none is named."""
    fields = json_object(content) or {}
    return next((text_of(fields, name) for name in _PARTIES if name in fields), "")


def _app_that_asks(world: World, header: str) -> App | None:
    """The app whose consumer key and secret these are."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        given = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    known = ((app, f"{app.consumer_key}:{app.consumer_secret}".encode()) for app in world.settings.apps)
    return next((app for app, expected in known if compare_digest(given, expected)), None)
