"""The transition table as a picture and as a page to read: `python -m scripts.state_diagram --write|--check PAGE`.

The page draws what `TABLE` says and nothing else; where a cell leads is decided in `domain.edges`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from payment_service.domain.edges import STATE_OF, targets
from payment_service.domain.finding import Finding
from payment_service.domain.payment import STATUS_OF
from payment_service.domain.transitions import HEADINGS, TABLE

_COMMAND = "make diagram"

_LEGEND = {
    "-": "nothing happens",
    "ids": "only the provider's ids are recorded; no event",
    "case": "the state stays, and a case is opened for a person",
    "$": "the state stays, and a case about money is opened; no new attempt until it is settled",
    "A+case, A+$": "go to A, and open one",
    "F\\|X": "failed or cancelled, as the code says",
    "F0\\|X0": "failed or cancelled, as the code says and only a query told",
    "cert": "it is proven that nothing was paid: the end is certain",
    "agrees": "the same, if it was said before; otherwise a case",
    "differs": "a case, unless the same was said before",
    "seen": "a query found nothing paid: evidence, which counts when the watch ends",
    "unread": "a case; until it is settled, no end without money is certain",
    "unknown": "a case; the watch is over, and the end stays uncertain",
    "over": "the payment's own case about that receipt ends",
    "settled": "the case that an operator has settled ends",
    "receipt": "the receipt number is recorded",
    "second": "a second answer “paid”, some time after the first, is as good as a receipt",
    "block": "the booking is no longer blocked by this payment",
    "back+case": "return from REFUNDING to the state before, and open a case",
    "no": "the one who asked is refused",
    "own": "nothing when it was done before by the same request, otherwise refused",
}


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([*_introduction(), "```mermaid", *_mermaid(), "```", "", *_standings(), *_cells()]) + "\n"


def _introduction() -> list[str]:
    return [
        "# What may happen to a payment",
        "",
        f"Generated from `payment_service/domain/transitions.py` by `{_COMMAND}`; do not edit.",
        "",
        "Each arrow is labelled with the findings that lead along it. Whatever is not drawn changes no state: the",
        "table below says whether it is nothing, a case for a person, or a refusal.",
        "",
    ]


def _mermaid() -> Iterator[str]:
    yield "stateDiagram-v2"
    yield "    direction LR"
    for heading, column in HEADINGS.items():
        yield f'    state "{column.value}" as {heading}'
    yield "    [*] --> C"
    for origin_heading, origin in HEADINGS.items():
        for target_heading, target in HEADINGS.items():
            labels = [row.value for row in Finding if target in targets(row, origin)]
            if labels:
                yield f"    {origin_heading} --> {target_heading}: {'<br/>'.join(labels)}"


def _standings() -> Iterator[str]:
    yield "## The columns"
    yield ""
    yield "| column | standing | state | what a caller sees |"
    yield "|---|---|---|---|"
    for heading, column in HEADINGS.items():
        state = STATE_OF[column]
        yield f"| {heading} | {column.value} | {state.value} | {STATUS_OF[state].value} |"
    yield ""


def _cells() -> Iterator[str]:
    yield "## Every finding in every standing"
    yield ""
    yield f"| finding | {' | '.join(HEADINGS)} |"
    yield f"|---|{'---|' * len(HEADINGS)}"
    for row in Finding:
        cells = " | ".join(TABLE[row][column].replace("|", "\\|") for column in HEADINGS.values())
        yield f"| {row.value} | {cells} |"
    yield ""
    yield "A cell that is the name of a column means: go there. K is the completed payment, without its receipt where"
    yield "the finding brings none."
    yield ""
    yield "| word | meaning |"
    yield "|---|---|"
    for word, meaning in _LEGEND.items():
        yield f"| `{word}` | {meaning} |"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or say whether the committed one is what the table says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.state_diagram", description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="PATH", help="write the page to this file")
    action.add_argument("--check", type=Path, metavar="PATH", help="exit 1 if this file is not what would be written")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        chosen.write.parent.mkdir(parents=True, exist_ok=True)
        chosen.write.write_text(page(), encoding="utf-8")
        return 0
    committed = chosen.check.read_text(encoding="utf-8") if chosen.check.exists() else None
    if committed == page():
        return 0
    sys.stderr.write(f"{chosen.check} is not what the transition table says: run `{_COMMAND}`.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
