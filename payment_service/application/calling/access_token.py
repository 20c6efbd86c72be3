"""The access token that all processes share: whose turn it is to renew it, and what to do when it is refused.

A new token ends the life of the one before ("Daraja: Authorization" says one hour; recorded systems show the rest), so
two processes that each fetch their own keep killing each other's. Therefore the token is one row in the database with
a generation. Whoever finds it old takes a lease on the row, in a transaction of its own, and asks Daraja with no
transaction open; the answer is stored only if the lease is still held. Everybody else goes on with the old token while
it lives, or waits, within a bound, for the next generation.

A push that is refused because of its token reports the generation it used. One refusal renews it, once for all; one
more right after that is no matter of age (the product is not enabled, the environment is the wrong one, someone else
uses our keys), so it raises an alarm and waits instead of asking in a circle.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import CREDENTIALS_REFUSED, TOKEN_REFUSED
from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.token import DarajaApp, TokenUnavailable, fetch_token
from payment_service.security.sealing import ACCESS_TOKEN, SealBroken, Sealer
from payment_service.store.access_token import StoredToken, find_token, hold_lease_until, store_token, take_lease
from runtime.alarms import raise_alarm

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """How long each thing may take."""

    refresh_after: timedelta = timedelta(minutes=50)
    """Early enough in the hour to fail a few times before it matters."""
    margin: timedelta = timedelta(seconds=30)
    """A token is not used in its last seconds: it has to live until the request is read."""
    lease: timedelta = timedelta(seconds=15)
    """Longer than the request for a token may take (10 s)."""
    wait: timedelta = timedelta(seconds=12)
    """How long a push waits for a token when there is none that lives."""
    poll: timedelta = timedelta(milliseconds=100)
    """How often the row is read while another process renews it."""
    pause_after_failure: timedelta = timedelta(seconds=2)
    """Between two requests that brought no token, over all processes."""
    refusal_window: timedelta = timedelta(seconds=60)
    """A renewed token that is refused within it was not refused for its age."""
    refusal_pause: timedelta = timedelta(seconds=30)
    """How long nothing is sent after that."""
    doubt_pause: timedelta = timedelta(minutes=10)
    """Between two renewals that only another product asks for."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its generation, which a refusal is reported with."""

    value: str = field(repr=False)
    generation: int
    refresh_at: datetime
    expires_at: datetime


class NoAccessToken(Exception):
    """There is no token to send with; nothing was sent. The message is a code for the log."""


class CredentialsRefused(NoAccessToken):
    """Daraja does not take our consumer key and secret."""


@dataclass(slots=True)
class AccessToken:
    """The token as this process knows it, and what is needed to renew it. One per process and Daraja app."""

    app: DarajaApp
    engine: AsyncEngine
    daraja: DarajaClient
    sealer: Sealer
    clock: Callable[[], datetime]
    keep_exchange: Callable[[Exchange], Awaitable[None]]
    times: TokenTimes = field(default_factory=TokenTimes)

    held: Token | None = None
    refused_generation: int = 0
    """No token up to this generation is used any more."""
    refused_at: datetime | None = None
    """When the latest refusal was heard that led to a renewal."""
    paused_until: datetime | None = None
    """Nothing is asked for or sent before."""
    renewing: asyncio.Task[Token] | None = None
    renewal_started_at: datetime | None = None


async def get_token(tokens: AccessToken) -> Token:
    """A token that lives, or `NoAccessToken` within a bound."""
    now = tokens.clock()
    if tokens.paused_until is not None and now < tokens.paused_until:
        raise NoAccessToken("REFUSED_TWICE")
    held = tokens.held
    if held is not None and _lives(tokens, held, now):
        if now >= held.refresh_at:
            # Renewed beside the traffic: the old one goes on until the new one is there.
            _renew_beside(tokens, now)
        return held
    renewing = _start_renewal(tokens)
    try:
        # Shielded: the renewal belongs to everybody who waits for it, not to the one whose caller gave up.
        async with asyncio.timeout(tokens.times.wait.total_seconds()):
            return await asyncio.shield(renewing)
    except TimeoutError:
        raise NoAccessToken("NO_TOKEN_IN_TIME") from None
    except (SQLAlchemyError, psycopg.Error) as error:
        raise NoAccessToken("DATABASE_AWAY") from error


def token_at_hand(tokens: AccessToken) -> Token | None:
    """The token that this process holds, if it may be used and is not about to be renewed."""
    now, held = tokens.clock(), tokens.held
    paused = tokens.paused_until is not None and now < tokens.paused_until
    if paused or held is None or not _lives(tokens, held, now) or now >= held.refresh_at:
        return None
    return held


def token_refused(tokens: AccessToken, generation: int) -> None:
    """A push was refused because of the token of this generation."""
    if generation <= tokens.refused_generation:
        # The push was sent before the renewal that another refusal already led to.
        return
    now = tokens.clock()
    tokens.refused_generation = generation
    if tokens.refused_at is not None and now < tokens.refused_at + tokens.times.refusal_window:
        tokens.paused_until = now + tokens.times.refusal_pause
        raise_alarm(TOKEN_REFUSED, shortcodes=tokens.app.shortcodes)
    tokens.refused_at = now


def token_doubted(tokens: AccessToken, generation: int) -> None:
    """Another product than the prompt refused the token of this generation.

    It may have died, and then a new one helps; or the app has not that product, and then none does. So it is renewed
    once in a while, and prompts are not held up by it: a pause is for tokens that prompts are refused with.
    """
    now = tokens.clock()
    renewed_lately = tokens.refused_at is not None and now < tokens.refused_at + tokens.times.doubt_pause
    if generation > tokens.refused_generation and not renewed_lately:
        tokens.refused_generation, tokens.refused_at = generation, now


def _lives(tokens: AccessToken, token: Token, now: datetime) -> bool:
    return token.generation > tokens.refused_generation and now < token.expires_at - tokens.times.margin


def _renew_beside(tokens: AccessToken, now: datetime) -> None:
    last = tokens.renewal_started_at
    if last is None or now >= last + tokens.times.pause_after_failure:
        _start_renewal(tokens)


def _start_renewal(tokens: AccessToken) -> asyncio.Task[Token]:
    """The renewal of this process: the one that runs, or a new one."""
    if tokens.renewing is None or tokens.renewing.done():
        tokens.renewal_started_at = tokens.clock()
        tokens.renewing = asyncio.create_task(_renew(tokens), name="renew-access-token")
        # Its failure is told to whoever waits, and logged, since it may be that nobody does.
        tokens.renewing.add_done_callback(_look_at_failure)
    return tokens.renewing


def _look_at_failure(task: asyncio.Task[Token]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.warning("daraja token not renewed", cause=type(error).__name__)


async def _renew(tokens: AccessToken) -> Token:
    """The next generation, fetched by us or by whoever has the lease."""
    # Monotonic, since it bounds a wait of this process; the lease is compared by the clock that all share.
    give_up_at = time.monotonic() + tokens.times.wait.total_seconds()
    while time.monotonic() < give_up_at:
        now, lease_id = tokens.clock(), uuid4()
        async with tokens.engine.begin() as conn:
            stored = await find_token(conn, tokens.app.key)
            token = _open(tokens, stored)
            alive = token is not None and _lives(tokens, token, now)
            if token is not None and alive and now < token.refresh_at:
                return _adopt(tokens, token)
            mine = await take_lease(
                conn,
                tokens.app.key,
                lease_id=lease_id,
                newer_than=stored.generation if stored is not None else 0,
                now=now,
                until=now + tokens.times.lease,
            )
        if mine:
            try:
                fetched = await _fetch(tokens, lease_id)
            except NoAccessToken:
                if token is None or not alive:
                    raise
                return _adopt(tokens, token)
            if fetched is not None:
                return _adopt(tokens, fetched)
        elif token is not None and alive:
            return _adopt(tokens, token)
        else:
            await asyncio.sleep(tokens.times.poll.total_seconds())
    raise NoAccessToken("NO_TOKEN_IN_TIME")


def _adopt(tokens: AccessToken, token: Token) -> Token:
    tokens.held = token
    return token


def _open(tokens: AccessToken, stored: StoredToken | None) -> Token | None:
    if stored is None:
        return None
    try:
        value = tokens.sealer.open(ACCESS_TOKEN, tokens.app.key, stored.sealed).decode()
    except SealBroken as error:
        # Sealed with a key that this process has not, or altered: a new one costs a second.
        _log.warning("stored token cannot be opened, so a new one is fetched", cause=str(error))
        return None
    return Token(value, stored.generation, stored.refresh_at, stored.expires_at)


async def _fetch(tokens: AccessToken, lease_id: UUID) -> Token | None:
    """Ask Daraja, with no transaction open, and store. None if the lease was lost meanwhile."""
    answer, made = await fetch_token(tokens.daraja, tokens.app)
    if isinstance(answer, TokenUnavailable):
        async with tokens.engine.begin() as conn:
            until = tokens.clock() + tokens.times.pause_after_failure
            await hold_lease_until(conn, tokens.app.key, lease_id=lease_id, until=until)
        await tokens.keep_exchange(made)
        raise (CredentialsRefused if answer.alarm is CREDENTIALS_REFUSED else NoAccessToken)(answer.code)
    # Counted from before the request, so that it is never thought younger than it is.
    refresh_at = made.started_at + min(tokens.times.refresh_after, answer.expires_in * 5 / 6)
    expires_at = made.started_at + answer.expires_in
    async with tokens.engine.begin() as conn:
        generation = await store_token(
            conn,
            tokens.app.key,
            lease_id=lease_id,
            sealed=tokens.sealer.seal(ACCESS_TOKEN, tokens.app.key, answer.token.encode()),
            fetched_at=made.started_at,
            refresh_at=refresh_at,
            expires_at=expires_at,
        )
    await tokens.keep_exchange(made)
    if generation is None:
        _log.warning("daraja token lease lost")
        return None
    return Token(answer.token, generation, refresh_at, expires_at)
