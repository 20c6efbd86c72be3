"""`python -m benchmarks`: run everything, write the results file and, unless the run is a quick one, the table."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.campaign import Size, quick_size, run_campaign
from benchmarks.report import table, write_table
from development.parts import Start, start_watched

HERE = Path(__file__).parent


def main(words: Sequence[str] | None = None, start: Start = start_watched) -> int:
    """Command line; exit code 1 if the run is not valid. Tests may start the programs in another way."""
    parser = argparse.ArgumentParser(description="Measure the service beside its floor.")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that everything works")
    parser.add_argument("--output", type=Path, help="folder for latest.json (default: benchmarks/results)")
    arguments = parser.parse_args(words)
    if arguments.quick and arguments.output is None:
        parser.error("a quick run is no result to keep: name another folder with --output")
    output = arguments.output or HERE / "results"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = uvloop.run(run_campaign(Path(folder), quick_size() if arguments.quick else Size(), start))
    output.mkdir(parents=True, exist_ok=True)
    (output / "latest.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if arguments.output is None:
        write_table(HERE / "README.md", results)
    print(f"\n{table(results)}\n\nResults are in {output / 'latest.json'}.")
    return 0 if results["valid"] else 1


if __name__ == "__main__":
    sys.exit(main())
