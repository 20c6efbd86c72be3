"""The table of a run: a line for each case, and a total."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.running import Result

# Without a terminal: wide enough to be read in a log, narrow enough to be read at all.
PLAIN_WIDTH = 200


def a_console() -> Console:
    """Standard output; of a fixed width where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def show_progress(console: Console, result: Result) -> None:
    """One line as soon as a case is over."""
    console.print(Text(f"{'fail' if result.why_not else 'pass'}  {result.seconds:5.1f} s  {result.title}"))


def show_table(console: Console, results: Sequence[Result], seconds: float) -> bool:
    """Show everything; true when every case passed."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for heading in ("", "case", "what was done", "what the caller saw", "what the simulator's ledger says", ""):
        table.add_column(heading, vertical="top")
    for number, result in enumerate(results, start=1):
        verdict = Text("FAIL", style="bold red") if result.why_not else Text("pass", style="green")
        saw, ledger = (result.why_not, "") if result.why_not else (result.seen.caller, result.seen.ledger)
        cells = (str(number), result.title, result.done, saw, ledger)
        table.add_row(*(Text(cell) for cell in cells), verdict)
    console.print(table)
    passed = sum(not result.why_not for result in results)
    console.print(f"{passed} of {len(results)} pass; {seconds:.0f} s in all.")
    return passed == len(results)
