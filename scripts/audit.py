"""Ask whether anything that the locks name has a known vulnerability, and write down what the programs are made of.

`make audit` runs `python -m scripts.audit TOOLS`, where TOOLS is the folder of pip-audit and cyclonedx-py. The list of
parts (SBOM, in CycloneDX) is made from the lock alone. What is known of them is for the package registry's database of
vulnerabilities to say; a package that it says nothing about counts as not asked about, never as sound.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN_LOCK = "requirements-run.lock"
LOCKS = ("requirements.lock", "requirements-generator.lock", "requirements-audit.lock")
"""All that is installed; what the programs run with is a part of the first."""
SBOM = Path("build/sbom.cdx.json")
LONGEST_ANSWER_SECONDS = 600

SOUND, VULNERABLE, UNKNOWN = 0, 1, 2
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A known vulnerability of a part."""

    part: str
    advisory: str
    fixed_in: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database says of the parts of a lock."""

    findings: tuple[Finding, ...]
    answered: int
    unanswered: int


def read_answer(report: str) -> Answer | None:
    """What a report of pip-audit says; None where it is no report, since the database could not be asked at all."""
    try:
        parts = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    findings = tuple(
        Finding(f"{part['name']} {part['version']}", found["id"], ", ".join(found["fix_versions"]) or "no version yet")
        for part in parts
        for found in part.get("vulns", [])
    )
    unanswered = sum("skip_reason" in part for part in parts)
    return Answer(findings, len(parts) - unanswered, unanswered)


def verdict(answers: Sequence[Answer | None]) -> tuple[list[str], int]:
    """What to say of all locks, and the exit code."""
    findings = sorted({one for answer in answers if answer for one in answer.findings}, key=lambda one: one.part)
    lines = [f"{one.part} has the known vulnerability {one.advisory}; mended in {one.fixed_in}." for one in findings]
    answered = sum(answer.answered for answer in answers if answer)
    unanswered = sum(answer.unanswered for answer in answers if answer)
    if None in answers or unanswered:
        what = f"{unanswered} of {answered + unanswered} packages" if answered or unanswered else "any package"
        lines.append(
            f"The database of known vulnerabilities could not be asked about {what}, so this audit proves nothing about"
            " them: run it again where the package registry's JSON API can be reached."
        )
        return lines, VULNERABLE if findings else UNKNOWN
    if findings:
        return [*lines, "Raise these in pyproject.toml or the .in file, and run make lock."], VULNERABLE
    return [f"No known vulnerability in {answered} packages."], SOUND


def main(words: Sequence[str]) -> int:
    """Command line."""
    tools = Path(words[0])
    SBOM.parent.mkdir(exist_ok=True)
    listing = [str(tools / "cyclonedx-py"), "requirements", "--pyproject", "pyproject.toml", "--output-reproducible"]
    # It warns that a lock does not say what leads to what.
    done = subprocess.run([*listing, "-o", str(SBOM), RUN_LOCK], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return UNKNOWN
    parts = len(json.loads(SBOM.read_text(encoding="utf-8"))["components"])
    sys.stdout.write(f"{SBOM} lists the {parts} packages that the programs run with.\n")
    lines, code = verdict([_asked(tools, lock) for lock in LOCKS])
    sys.stdout.write("\n".join([*lines, ""]))
    return code


def _asked(tools: Path, lock: str) -> Answer | None:
    command = [str(tools / "pip-audit"), "--require-hashes", "--disable-pip", "--requirement", lock]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        # What it says on stderr where nothing answers is a traceback of fifty lines.
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return read_answer(done.stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
