"""`python -m tests.sabotage`: break the code in one place at a time, and see the tests notice.

The faults go into a copy of the tree, never into the tree itself. First the
tests that are to notice must pass on the untouched copy. Exit code 1 if a fault
survives.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.sabotage.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
RUN_WAIT_SECONDS = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main() -> int:
    """Command line; names of faults may be given, as parts of their text."""
    chosen = [fault for fault in FAULTS if not sys.argv[1:] or any(part in fault.name for part in sys.argv[1:])]
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        copy = Path(folder) / "copy"
        copy_tree(copy)
        tests = tuple(dict.fromkeys(test for fault in chosen for test in fault.tests))
        print(f"{len(chosen)} faults; first the {len(tests)} tests on the untouched code …", flush=True)
        passed, output = run(copy, tests, stop_at_first=False)
        if not passed:
            print(output[-4000:])
            print("The tests fail on the untouched code: nothing can be said about the faults.")
            return 1
        survivors = [fault for fault in chosen if not caught(copy, fault)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught.")
    return 1 if survivors else 0


def copy_tree(copy: Path) -> None:
    """What git knows and does not ignore, as it stands in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def caught(copy: Path, fault: Fault) -> bool:
    """Apply one fault, run its tests, take it back."""
    file = copy / fault.file
    sound = file.read_text()
    if sound.count(fault.old) != 1:
        print(f"MISSED   {fault.name}: its text does not stand exactly once in {fault.file}", flush=True)
        return False
    file.write_text(sound.replace(fault.old, fault.new))
    began = time.monotonic()
    try:
        passed, output = run(copy, fault.tests, stop_at_first=True)
    finally:
        file.write_text(sound)
    seconds = time.monotonic() - began
    if passed:
        print(f"SURVIVED {fault.name} ({seconds:.0f} s)", flush=True)
        return False
    by = _FAILED.findall(output)
    print(f"caught   {fault.name}: by {by[0] if by else 'a test run that did not end'} in {seconds:.0f} s", flush=True)
    return True


def run(copy: Path, tests: tuple[str, ...], *, stop_at_first: bool) -> tuple[bool, str]:
    """Run tests of the copy; whether they passed, and what pytest printed."""
    arguments = ["-q", "-p", "no:cacheprovider", "--no-cov", "--timeout=60", *(["-x"] if stop_at_first else []), *tests]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=copy,
            env={"PATH": "/usr/bin:/bin", "HOME": str(copy), "PYTHONPATH": f"{copy}:{copy / 'generated'}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "timed out"
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.returncode == 0, done.stdout


if __name__ == "__main__":
    sys.exit(main())
