"""Phones in a person's hand: such a phone answers a prompt when the person does, and not by the script of its number.

Decides what a person can do with a prompt and for how long it waits. A script that was given for a push goes before
the person, and so does what makes a result inevitable (callbacks.py). All phones are out of hand at first.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from daraja_simulator.ledger import Push

# The names of endings (phones.py) that a person can bring about.
PAID: Final = "paid"
NO_FUNDS: Final = "no_funds"
WRONG_PIN: Final = "wrong_pin"
CANCELLED: Final = "cancelled"
NO_ANSWER: Final = "silent"

# Of all phones: every other four digits are the right PIN.
THE_WRONG_PIN: Final = "0000"


@dataclass(slots=True)
class Hand:
    """What a person does with one phone."""

    holds: bool = False
    # Money that the person put on the phone, or took off it: when, and how much.
    added_kes: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt on a phone: the push behind it, whether a person took the phone, and what the person did."""

    push: Push
    taken: asyncio.Event
    answer: asyncio.Future[str]


@dataclass(slots=True)
class Hands:
    """All phones that a person has held, and all prompts that a person may answer."""

    by_phone: dict[str, Hand] = field(default_factory=dict)
    prompts: dict[str, Prompt] = field(default_factory=dict)

    def hold(self, phone: str) -> None:
        """From now on the person answers, also the prompt that is on the phone already."""
        self.by_phone.setdefault(phone, Hand()).holds = True
        if phone in self.prompts:
            self.prompts[phone].taken.set()

    def put_down(self, phone: str) -> None:
        """The next prompt is answered by script again. One that the person has seen stays unanswered."""
        if phone in self.by_phone:
            self.by_phone[phone].holds = False

    def holds(self, phone: str) -> bool:
        return phone in self.by_phone and self.by_phone[phone].holds

    def prompt_on(self, phone: str) -> Push | None:
        """What the person is asked now."""
        prompt = self.prompts.get(phone)
        return prompt.push if prompt is not None and prompt.taken.is_set() and not prompt.answer.done() else None

    def answer(self, phone: str, number: int, ending: str) -> None:
        """The person answers the prompt of the push with this number; one that has gone cannot be answered."""
        push = self.prompt_on(phone)
        if push is not None and push.number == number:
            self.prompts[phone].answer.set_result(ending)

    async def ending_of(self, push: Push, script_seconds: float, prompt_seconds: float) -> str | None:
        """How the person ends the prompt; None when the script was through before a person took the phone."""
        prompt = Prompt(push, asyncio.Event(), asyncio.get_running_loop().create_future())
        self.prompts[push.phone] = prompt
        try:
            if self.holds(push.phone):
                prompt.taken.set()
            else:
                try:
                    async with asyncio.timeout(script_seconds):
                        await prompt.taken.wait()
                except TimeoutError:
                    return None
            began = push.prompted_time or time.time()
            try:
                async with asyncio.timeout(max(0.0, began + prompt_seconds - time.time())):
                    return await prompt.answer
            except TimeoutError:
                return NO_ANSWER
        finally:
            if self.prompts.get(push.phone) is prompt:
                del self.prompts[push.phone]
