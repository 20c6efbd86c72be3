"""How an order to send money is lived through, a reversal or a B2C payment, when a script wants it.

Its script has all that stands in result_scripts.py, and these, each of them optional:

  carries_out          whether M-Pesa carries the order out, whatever the answer says; otherwise when it is taken.
                       With "error" and true the answer lies; taken and false, the result does: if one comes, it says
                       done and nothing more. What stands against an order (no money, reversed before) does so all
                       the same
  answer               normal, lost, reset, cut_header, cut_body: as for a push (behaviour.py)
  answer_delay_seconds the order is on its way, the answer waits so long
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final

from daraja_simulator.behaviour import Answer
from daraja_simulator.reading import UnreadableScript, object_with, one_of, seconds, typed
from daraja_simulator.result_scripts import RESULT_NAMES, ResultBehaviour, parse_result_behaviour


@dataclass(frozen=True, slots=True)
class OrderBehaviour:
    """The script of one order to send money: of its result, and of the order itself."""

    told: ResultBehaviour = field(default_factory=ResultBehaviour)
    carries_out: bool | None = None
    answer: Answer = Answer.NORMAL
    answer_delay_seconds: float = 0.0


@dataclass(slots=True)
class OrderScripts:
    """What is scripted for coming orders: for the next ones, and by the phone that is to have the money."""

    faults: deque[OrderBehaviour] = field(default_factory=deque)
    by_phone: defaultdict[str, deque[OrderBehaviour]] = field(default_factory=lambda: defaultdict(deque))

    def next(self, phone: str) -> OrderBehaviour:
        """The script of an order; uses it up."""
        if self.faults:
            return self.faults.popleft()
        scripts = self.by_phone.get(phone)
        return scripts.popleft() if scripts else OrderBehaviour()


_ORDER_NAMES: Final = ("carries_out", "answer", "answer_delay_seconds")


def parse_order_behaviour(value: object) -> OrderBehaviour:
    """Read the script of an order to send money."""
    script = object_with(value, "an order's script", (*RESULT_NAMES, *_ORDER_NAMES))
    answer = Answer(one_of(script, "answer", tuple(Answer)) or Answer.NORMAL)
    if answer is Answer.CLOSED_UNREAD:
        raise UnreadableScript("closed_unread is for pushes: an order has been read by the time its script is known")
    return OrderBehaviour(
        told=parse_result_behaviour({name: one for name, one in script.items() if name not in _ORDER_NAMES}),
        carries_out=typed(script, "carries_out", bool),
        answer=answer,
        answer_delay_seconds=seconds(script, "answer_delay_seconds") or 0.0,
    )
