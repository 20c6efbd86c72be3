"""The transition table as a picture and as a page to read.

`page` is pure and draws what `TABLE` says and nothing else; where a cell leads
is decided there and in `transitions`. The command at the end is the one place
in this folder that touches a file, to write the page or to check that the
committed one is not stale.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from payment_service.domain.findings import Finding, Standing
from payment_service.domain.payment import STATUS_OF, State
from payment_service.domain.transitions import TABLE

_STATE_OF = {
    Standing.C: State.CREATED,
    Standing.S: State.SENDING,
    Standing.P: State.PROMPTED,
    Standing.U0: State.UNCERTAIN,
    Standing.U1: State.UNCERTAIN,
    Standing.UR: State.UNCERTAIN,
    Standing.K0: State.COMPLETED,
    Standing.K: State.COMPLETED,
    Standing.F: State.FAILED,
    Standing.X: State.CANCELLED,
    Standing.E: State.EXPIRED,
    Standing.RG: State.REFUNDING,
    Standing.RD: State.REFUNDED,
}

_WITHOUT_RECEIPT = frozenset({Finding.PAID_NO_RECEIPT, Finding.QUERY_PAID})

_COMMAND = "make diagram"

_LEGEND = {
    "-": "nothing happens",
    "ids": "only the provider's ids are recorded; no event",
    "case": "the state stays, and a case is opened for a person",
    "$": "the state stays, and a case about money is opened; no new attempt until it is settled",
    "A+case, A+$": "go to A, and open one",
    "F\\|X": "failed or cancelled, as the code says",
    "cert": "nothing can change the outcome any more",
    "differs": "a case, unless the same was said before",
    "receipt": "the receipt number is recorded",
    "second": "a second answer “paid”, some time after the first, is as good as a receipt",
    "block": "the booking is no longer blocked by this payment",
    "back+case": "return from REFUNDING to the state before, and open a case",
    "no": "the one who asked is refused",
    "own": "nothing when it was done before by the same request, otherwise refused",
}


def targets(row: Finding, column: Standing) -> tuple[Standing, ...]:
    """The standings that a cell can lead to, other than the one it is in."""
    cell = TABLE[row][column].partition("+")[0]
    match cell:
        case "K" if row in _WITHOUT_RECEIPT:
            leads_to: tuple[Standing, ...] = (Standing.K0,)
        case "receipt":
            leads_to = (Standing.K,)
        case "F|X":
            leads_to = (Standing.F, Standing.X)
        case "back":
            leads_to = (Standing.K, Standing.UR)
        case name if name in Standing.__members__:
            leads_to = (Standing[name],)
        case _:
            leads_to = ()
    return tuple(standing for standing in leads_to if standing is not column)


def edges() -> frozenset[tuple[State, State]]:
    """Every change of state that some cell of the table can bring about."""
    return frozenset(
        (_STATE_OF[column], _STATE_OF[target])
        for row in Finding
        for column in Standing
        for target in targets(row, column)
        if _STATE_OF[column] is not _STATE_OF[target]
    )


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
    for column in Standing:
        yield f'    state "{column.value}" as {column.name}'
    yield "    [*] --> C"
    for origin in Standing:
        for target in Standing:
            labels = [row.value for row in Finding if target in targets(row, origin)]
            if labels:
                yield f"    {origin.name} --> {target.name}: {'<br/>'.join(labels)}"


def _standings() -> Iterator[str]:
    yield "## The columns"
    yield ""
    yield "| column | standing | state | what a caller sees |"
    yield "|---|---|---|---|"
    for column in Standing:
        state = _STATE_OF[column]
        yield f"| {column.name} | {column.value} | {state.value} | {STATUS_OF[state].value} |"
    yield ""


def _cells() -> Iterator[str]:
    yield "## Every finding in every standing"
    yield ""
    yield f"| finding | {' | '.join(column.name for column in Standing)} |"
    yield f"|---|{'---|' * len(Standing)}"
    for row in Finding:
        cells = " | ".join(TABLE[row][column].replace("|", "\\|") for column in Standing)
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
    parser = argparse.ArgumentParser(prog="python -m payment_service.domain.diagram", description=main.__doc__)
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
