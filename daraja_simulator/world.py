"""Everything one running simulator holds: settings, ledger, tokens, scripts, open prompts, callbacks on their way.

It decides which behaviour a push gets (a fault for all phones, then the phone's script, then its number) and how
long an answer takes. All of it lives in one event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from aiohttp import web

from daraja_simulator import errors
from daraja_simulator.behaviour import Answer, Behaviour
from daraja_simulator.courier import Courier
from daraja_simulator.draws import Draws, recorded_latency_seconds
from daraja_simulator.enquiries import Enquiries
from daraja_simulator.hands import Hands
from daraja_simulator.heard import HeardRequests
from daraja_simulator.initiator import Initiator
from daraja_simulator.ledger import CallbackAttempt, Ledger, Push
from daraja_simulator.nairobi import timestamp
from daraja_simulator.order_scripts import OrderScripts
from daraja_simulator.phones import VirtualPhone, virtual_phone
from daraja_simulator.quirks import LATENCY_SLOT, Chosen, drawn
from daraja_simulator.reading import RawAnswer
from daraja_simulator.returns import Returns
from daraja_simulator.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one push will be lived through with: its phone, its script, its chance."""

    phone: VirtualPhone
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class LivingToken:
    value: str
    # On the monotonic clock, so that a stepped wall clock does not revive a token.
    valid_until: float


@dataclass(slots=True)
class Tokens:
    """The one living access token of each app, by its consumer key; a new one kills the previous."""

    living: dict[str, LivingToken] = field(default_factory=dict)
    issued: int = 0
    refusals: deque[str] = field(default_factory=deque)
    request_faults: deque[RawAnswer | str] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class HeldResult:
    """A result that has not been posted: where to, what, and where the books note it."""

    url: str
    content_type: str
    body: bytes
    noted: list[CallbackAttempt]


@dataclass(slots=True)
class World:
    """The state of one simulator."""

    settings: Settings
    ledger: Ledger = field(default_factory=Ledger)
    tokens: Tokens = field(default_factory=Tokens)
    hits: Counter[str] = field(default_factory=Counter)
    courier: Courier = field(default_factory=Courier)
    faults: deque[Behaviour] = field(default_factory=deque)
    scripts: defaultdict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    plans: dict[int, Plan] = field(default_factory=dict)
    open_prompts: dict[str, Push] = field(default_factory=dict)
    hands: Hands = field(default_factory=Hands)
    heard: HeardRequests = field(default_factory=HeardRequests)
    # Callbacks that wait for another one to go first, or for a word from outside.
    reordered: list[Push] = field(default_factory=list)
    held: list[Push] = field(default_factory=list)
    enquiries: Enquiries = field(default_factory=Enquiries)
    returns: Returns = field(init=False)
    order_scripts: OrderScripts = field(default_factory=OrderScripts)
    # Results that wait for a word from outside: how to post each.
    held_results: list[HeldResult] = field(default_factory=list)
    initiator: Initiator = field(default_factory=Initiator)
    # Shortcodes and tills whose transactions may be pulled; Safaricom never forgets one either.
    pull_registrations: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    connections_closed_unread: int = 0
    # Set by the server: stops listening for so many seconds.
    start_outage: Callable[[float], None] = lambda _seconds: None
    # Tells runs with the same seed apart in ids, which real Daraja never repeats either.
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.returns = Returns(self.settings.opening_balance_kes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background; the set keeps the task alive."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def chosen(self, group: str, push: Push, scripted: tuple[str, ...] | None, *more: object) -> tuple[Chosen, Draws]:
        """The quirks of one message about a push, and its draws; a script's own quirks leave nothing to chance."""
        return self.chosen_by(group, scripted, push.phone, push.nth, group, *more)

    def chosen_by(self, group: str, scripted: tuple[str, ...] | None, *key: object) -> tuple[Chosen, Draws]:
        """The quirks of a message, and its draws, both drawn by a key."""
        draws = Draws(self.settings.seed, *key)
        if scripted is not None:
            ids = frozenset(scripted)
        elif self.settings.quirks:
            ids = drawn(group, draws)
        else:
            ids = frozenset()
        return Chosen(ids, self.hits), draws

    def chosen_for(self, group: str, *key: object) -> Chosen:
        """The quirks of a message that is about no push."""
        return self.chosen_by(group, None, group, *key)[0]

    def plan(self, push: Push) -> Plan:
        """Decide the push's behaviour once, when it has been read."""
        phone = virtual_phone(push.phone)
        script = self.scripts.get(push.phone)
        if self.faults:
            behaviour = self.faults.popleft()
        elif script:
            behaviour = script.popleft()
        else:
            behaviour = phone.behaviour
        plan = Plan(phone, behaviour)
        self.plans[push.number] = plan
        return plan

    def takes_unread_fault(self) -> bool:
        """Whether the next push is to be cut off before it is read; uses the fault up."""
        if self.faults and self.faults[0].answer is Answer.CLOSED_UNREAD:
            self.faults.popleft()
            self.connections_closed_unread += 1
            self.hits["push.closed_unread"] += 1
            return True
        return False

    async def wait_latency(self, *key: object) -> None:
        """Take as long as Daraja takes to answer; the draw is keyed by what is answered."""
        seconds = self.settings.latency_seconds
        if seconds is None:
            fraction = Draws(self.settings.seed, "latency", *key).fraction(LATENCY_SLOT)
            seconds = recorded_latency_seconds(fraction)
        if seconds > 0:
            await asyncio.sleep(seconds)

    def request_id(self, *key: object) -> str:
        """An id in today's form: four, four, four, twelve hex digits with a tail of three to seven digits."""
        digest = blake2b("|".join(map(str, (self.run_id, *key))).encode(), digest_size=16).digest()
        text = digest.hex()
        tail = int.from_bytes(digest[12:], "big") % 9_999_900 + 100
        return f"{text[:4]}-4{text[4:7]}-{text[7:11]}-{text[11:23]}{tail}"

    def conversation_id(self, at: float, *key: object) -> str:
        """AG_, the day in Nairobi, and twenty hex digits: how M-Pesa itself names a request or a payment."""
        digest = blake2b("|".join(map(str, (self.run_id, "conversation", *key))).encode(), digest_size=10)
        return f"AG_{timestamp(at)[:8]}_{digest.hexdigest()}"

    def refuse(self, refusal: errors.Refusal, why: str | None = None) -> web.Response:
        """A refusal in Daraja's words; `why` goes beside them, into a header that Daraja does not have."""
        status, content_type, body = errors.render(refusal, self.request_id(time.time_ns()))
        headers = {} if why is None else {"X-Simulator-Why": why}
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)


def json_answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")


def raw_answer(raw: RawAnswer) -> web.Response:
    response = web.Response(status=raw.status, body=raw.body, headers=dict(raw.headers))
    if "content-type" not in {name.lower() for name in raw.headers}:
        response.content_type = "application/json"
    return response
