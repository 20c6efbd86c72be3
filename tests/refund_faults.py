"""What M-Pesa may do with one order to send money back: every fault of the simulator, drawn by chance."""

from collections.abc import Iterable
from random import Random
from typing import Any

ANSWERS = ["normal"] * 6 + ["lost", "reset", "cut_header", "cut_body"]
RESULTS = ["once"] * 5 + ["twice", "never", "queue_timeout", "held"]
ODDITIES: list[dict[str, Any]] = [
    *([{}] * 6),
    {"carries_out": False},
    {"error": "internal_error", "carries_out": True},
    {"error": "spike_arrest"},
    {"quirks": ["reversal.no_original", "b2c.no_receipt"]},
    {"quirks": ["order.code_string", "order.bare_list"]},
    {"result_code": 4711},
    {"result_code": 1},
    {"without": ["OriginalTransactionID", "TransactionReceipt"]},
    {"raw_result": {"body": "<html>"}},
    {"raw_answer": {"status": 503, "body": "<html>"}},
    {"raw_answer": {"status": 200, "body": "<html>"}, "carries_out": True},
    {"answer_delay_seconds": 0.3},
    {"delay_seconds": 0.3},
]


def drawn(chance: Random) -> dict[str, Any]:
    """How one order goes."""
    behaviour = dict(chance.choice(ODDITIES))
    scripted = not behaviour.keys().isdisjoint(("error", "raw_answer"))
    if not scripted:
        behaviour |= {"answer": chance.choice(ANSWERS)}
    if not scripted or behaviour.get("carries_out"):
        behaviour |= {"result": chance.choice(RESULTS)}
    return behaviour


def never_drawn(behaviours: Iterable[dict[str, Any]]) -> list[Any]:
    """What of all that may be drawn is part of none of them."""
    drawn_ones = list(behaviours)
    parts: list[dict[str, Any]] = [
        *ODDITIES,
        *({"answer": one} for one in ANSWERS),
        *({"result": one} for one in RESULTS),
    ]
    return [part for part in parts if not any(part.items() <= one.items() for one in drawn_ones)]
