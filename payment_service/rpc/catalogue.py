"""The page of errors, made from the comments of the API: `python -m payment_service.rpc.catalogue --write PAGE`.

A test holds the committed page and these comments together, and the comments to
what `errors` really answers.
"""

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "proto" / "mpesa_payments" / "v1" / "error_reason.proto"

_ENTRY = re.compile(r"((?: *//[^\n]*\n)+) *ERROR_REASON_([A-Z_]+) = [1-9]")

_HEAD = """# Errors

Generated from the comments in `proto/mpesa_payments/v1/error_reason.proto`; change them there.

Every error carries `google.rpc.ErrorInfo` with the domain `mpesa-payments` and one of these reasons. Bad fields are
listed in `google.rpc.BadRequest`, all at once; `google.rpc.RetryInfo` says how long to wait where waiting helps.

| reason | status | what it means, and what to do |
|---|---|---|
"""


def render_catalogue() -> str:
    """The page."""
    rows = []
    for comment, reason in _ENTRY.findall(SOURCE.read_text(encoding="utf-8")):
        text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        code, _, meaning = text.partition(". ")
        rows.append(f"| `{reason}` | {code} | {meaning} |\n")
    return _HEAD + "".join(rows)


def main(arguments: list[str]) -> None:
    """Write the page."""
    match arguments:
        case ["--write", page]:
            Path(page).write_text(render_catalogue(), encoding="utf-8")
        case _:
            raise SystemExit("usage: python -m payment_service.rpc.catalogue --write docs/errors.md")


if __name__ == "__main__":
    main(sys.argv[1:])
