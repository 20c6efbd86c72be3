"""The page of errors, made from the comments of the API: `python -m scripts.error_catalogue --write PAGE`.

`--check PAGE` says whether the committed page is what these comments say. A
test holds the comments to what `errors` really answers.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "proto" / "mpesa_payments" / "v1" / "error_reason.proto"

_COMMAND = "make errors"

_ENTRY = re.compile(r"((?: *//[^\n]*\n)+) *ERROR_REASON_([A-Z_]+) = [1-9]")

_HEAD = f"""# Errors

Generated from the comments in `proto/mpesa_payments/v1/error_reason.proto` by `{_COMMAND}`; change them there.

Every error carries `google.rpc.ErrorInfo` with the domain `mpesa-payments` and one of these reasons. Bad fields are
listed in `google.rpc.BadRequest`, all at once; `google.rpc.RetryInfo` says how long to wait where waiting helps.

| reason | status | what it means, and what to do | ErrorInfo, for example |
|---|---|---|---|
"""


def render_catalogue() -> str:
    """The page."""
    rows = []
    for comment, reason in _ENTRY.findall(SOURCE.read_text(encoding="utf-8")):
        text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        code, _, rest = text.partition(". ")
        meaning, _, sample = rest.partition(" Sample: ")
        rows.append(f"| `{reason}` | {code} | {meaning} | `{sample}` |\n")
    return _HEAD + "".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Write the page, or say whether the committed one is what the comments say."""
    parser = argparse.ArgumentParser(prog="python -m scripts.error_catalogue", description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="PATH", help="write the page to this file")
    action.add_argument("--check", type=Path, metavar="PATH", help="exit 1 if this file is not what would be written")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        chosen.write.write_text(render_catalogue(), encoding="utf-8")
        return 0
    committed = chosen.check.read_text(encoding="utf-8") if chosen.check.exists() else None
    if committed == render_catalogue():
        return 0
    sys.stderr.write(f"{chosen.check} is not what the comments of the API say: run `{_COMMAND}`.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
