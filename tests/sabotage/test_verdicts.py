"""What counts as caught: a test that ran and failed, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from development.postgres import create_database, embedded_postgres
from tests.conftest import UNSYNCED
from tests.databases import TEMPLATE
from tests.patience import PATIENCE_SECONDS
from tests.sabotage.__main__ import read, with_fault
from tests.sabotage.benches import PATIENCE, ROOT, Bench, Servers, bench
from tests.sabotage.faults import Fault

TESTS = {
    "passes": "def test_it() -> None: pass",
    "fails": "def test_it() -> None: assert False",
    "cannot be imported": "import no_such_module\ndef test_it() -> None: pass",
    "has no ground to stand on": "import pytest\n@pytest.fixture\ndef ground(): 1 / 0\ndef test_it(ground): pass",
    "hangs": "import time, pytest\n@pytest.mark.timeout(1)\ndef test_it() -> None: time.sleep(60)",
}


NO_SERVERS = Servers((), "")


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("copy")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    async with bench(folder) as started:
        yield started


async def test_only_a_test_that_ran_and_failed_has_caught_a_fault(running: Bench) -> None:
    for kind, text in TESTS.items():
        name = f"test_that_{kind.replace(' ', '_')}.py"
        (running.copy / name).write_text(text)
        done = await running.run(("-x", name), 300.0)
        caught, why = read(done, hang_expected=False)
        assert caught is (kind == "fails"), done.output
        assert ("did not end" in why) is (kind == "hangs")
        assert read(done, hang_expected=True)[0] is (kind in ("fails", "hangs"))


async def test_a_run_that_had_to_be_ended_has_caught_nothing_unless_a_hang_is_expected(running: Bench) -> None:
    (running.copy / "test_it.py").write_text("import time\ndef test_it() -> None: time.sleep(600)")
    done = await running.run(("test_it.py",), 0.5)
    assert done.code is None
    assert read(done, hang_expected=False) == (False, "the tests did not end")
    assert read(done, hang_expected=True)[0] is True


async def test_what_a_run_has_started_ends_with_it(running: Bench) -> None:
    (running.copy / "test_it.py").write_text(
        "import subprocess\ndef test_it() -> None: open('left', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))"
    )
    assert (await running.run(("test_it.py",), 300.0)).code == 0
    left = Path("/proc") / (running.copy / "left").read_text()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while left.exists() and "Z (" not in (left / "status").read_text():
            await asyncio.sleep(0.02)


async def test_every_run_imports_the_code_as_it_is_at_that_moment(running: Bench) -> None:
    """Also where two faults of a file are equally long and follow each other within the second that Python looks at."""
    sound = "ANSWER = 0\n"
    (running.copy / "answers.py").write_text(sound)
    (running.copy / "test_it.py").write_text("import answers\ndef test_it() -> None: assert answers.ANSWER < 2")
    for answer in (1, 2, 1):
        fault = Fault("an answer", "answers.py", "ANSWER = 0", f"ANSWER = {answer}", ("test_it.py",))
        assert (await with_fault(running, NO_SERVERS, fault)).caught is (answer >= 2), answer
    assert (running.copy / "answers.py").read_text() == sound


ASKS_FOR_A_SERVER = """
import psycopg
import pytest

@pytest.fixture(scope="session")
async def migrated_servers():
    raise RuntimeError("another server is started")

async def test_it(migrated_servers) -> None:
    with psycopg.connect((await migrated_servers(18)).dsn(), autocommit=True) as owner:
        owner.execute("CREATE DATABASE left_behind")
        owner.execute("CREATE ROLE left_behind")
"""


async def test_a_run_is_given_a_server_as_the_run_before_it_was(running: Bench, tmp_path: Path) -> None:
    (running.copy / "test_server.py").write_text(ASKS_FOR_A_SERVER)
    async with embedded_postgres(tmp_path / "postgres", settings=UNSYNCED) as server:
        await create_database(server, TEMPLATE)
        for _ in range(2):
            arguments = ("--asyncio-mode=auto", "test_server.py")
            done = await running.run(arguments, 300.0, Servers((server,), "password"))
            assert done.code == 0, done.output


def test_what_is_shortened_in_the_copies_is_there() -> None:
    assert (ROOT / "tests" / "patience.py").read_text().count(PATIENCE[0]) == 1
