"""The embedded PostgreSQL: it keeps its data, dies with its owner however that goes, and starts again.

Owners that are to be killed are real processes; every wait is a poll with a generous bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest

from development import postgres_account
from development.postgres import (
    EmbeddedPostgresError,
    EmbeddedServer,
    LockFile,
    create_database,
    drop_database,
    embedded_postgres,
)
from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]

OWNER_PROGRAM = """
import asyncio, json, signal, sys
from pathlib import Path
from development.postgres import embedded_postgres

# Ignored where the tests run in the background of a shell, and inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with embedded_postgres(Path(sys.argv[1])) as server:
        print(json.dumps({"dsn": server.dsn(), "process_id": server.process_id}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_owner(data_dir: Path) -> tuple[asyncio.subprocess.Process, str, int]:
    """A process that runs a server on `data_dir` until it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER_PROGRAM, str(data_dir), cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS)
    told = json.loads(line)
    return process, told["dsn"], told["process_id"]


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.05)


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process_id}/stat")
    # A dead process that nobody has waited for yet is dead.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def one_value(dsn: str, statement: str) -> object:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def awkward_dir(tmp_path: Path) -> Path:
    """Closed to everyone else, with a space and a letter that is not ASCII."""
    folder = tmp_path / "mode 700 é"
    folder.mkdir(mode=0o700)
    return folder / "data"


async def test_data_survive_a_stop_and_a_start_in_a_closed_folder_with_an_awkward_name(awkward_dir: Path) -> None:
    async with embedded_postgres(awkward_dir) as server:
        async with await psycopg.AsyncConnection.connect(server.dsn()) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        first_process = server.process_id
    assert not is_running(first_process)
    async with embedded_postgres(awkward_dir) as server:
        assert await one_value(server.dsn(), "SELECT answer FROM kept") == 42


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Path, EmbeddedServer]]:
    """A server and its folder, for tests that only look at one."""
    folder = tmp_path_factory.mktemp("shared")
    async with embedded_postgres(folder) as server:
        yield folder, server


@pytest.fixture(scope="module")
async def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a server has run and is at rest, for tests of the starts after the first."""
    folder = tmp_path_factory.mktemp("used")
    async with embedded_postgres(folder):
        return folder


@pytest.mark.parametrize("version", [16, 18])
async def test_each_version_is_what_it_says_and_keeps_its_promises_on_disk(tmp_path: Path, version: int) -> None:
    async with embedded_postgres(tmp_path, version=version) as server:
        assert str(await one_value(server.dsn(), "SHOW server_version")).startswith(f"{version}.")
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await one_value(server.dsn(), f"SHOW {setting}") == "on"


async def test_the_password_is_asked_for_and_kept_closed(shared: tuple[Path, EmbeddedServer]) -> None:
    folder, server = shared
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await one_value(server.dsn(password="guessed"), "SELECT 1")
    assert server.password not in repr(server)
    (password_file,) = folder.glob("*.owner-password")
    assert password_file.stat().st_mode & 0o777 == 0o600


async def test_it_listens_on_loopback_only_and_has_no_socket_path(shared: tuple[Path, EmbeddedServer]) -> None:
    _, server = shared
    assert await one_value(server.dsn(), "SHOW listen_addresses") == "127.0.0.1"
    assert await one_value(server.dsn(), "SHOW unix_socket_directories") == ""


async def test_the_server_ends_when_its_owner_is_killed_and_starts_again_at_once(used: Path) -> None:
    owner, dsn, server_process = await start_owner(used)
    assert await one_value(dsn, "SELECT 1") == 1
    await kill(owner)
    # No wait for the old server: the next start has to cope with one that is still shutting down.
    async with embedded_postgres(used) as server:
        assert await one_value(server.dsn(), "SELECT 1") == 1
        assert server.process_id != server_process
    assert not is_running(server_process)


async def test_the_server_ends_after_its_owner_was_killed_even_if_nobody_comes_back(used: Path) -> None:
    owner, _, server_process = await start_owner(used)
    assert is_running(server_process)
    await kill(owner)
    await eventually(lambda: not is_running(server_process))


async def test_a_server_whose_owner_and_watchdog_were_both_killed_is_stopped_by_the_next_start(used: Path) -> None:
    owner, _, server_process = await start_owner(used)
    watchdog = int(Path(f"/proc/{server_process}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(watchdog, signal.SIGKILL)
    await kill(owner)
    assert is_running(server_process)
    async with embedded_postgres(used) as server:
        assert await one_value(server.dsn(), "SELECT 1") == 1
    assert not is_running(server_process)


async def test_committed_rows_outlive_a_killed_server_and_its_leftovers_do_not_stop_the_next(used: Path) -> None:
    owner, dsn, server_process = await start_owner(used)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS answer")
    os.kill(server_process, signal.SIGKILL)
    await kill(owner)
    pid_file = used / "postgresql-18" / "postmaster.pid"
    assert pid_file.exists()
    # The worst leftover: the kernel has given the number to another process of ours, here this test.
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    async with embedded_postgres(used) as server:
        assert await one_value(server.dsn(), "SELECT answer FROM kept") == 7


async def test_a_first_run_that_was_cut_short_starts_over(tmp_path: Path) -> None:
    half = tmp_path / "postgresql-18.unfinished"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(tmp_path) as server:
        assert await one_value(server.dsn(), "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.parametrize("sign", ["postgresql-18.unfinished", "postgresql-18/postmaster.pid"])
async def test_a_start_that_is_given_up_leaves_nothing_running(tmp_path: Path, sign: str) -> None:
    """While initdb runs, and while the server becomes ready."""

    async def start() -> None:
        async with embedded_postgres(tmp_path):
            await asyncio.Event().wait()

    starting = asyncio.create_task(start())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (tmp_path / sign).exists():
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with LockFile(tmp_path / "server.lock") as lock:
        assert lock.try_lock()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_it_runs_on_either_event_loop(tmp_path: Path, loop: str) -> None:
    program = OWNER_PROGRAM.replace("asyncio.run(", f"__import__({loop!r}).run(")
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    told = json.loads(await asyncio.wait_for(owner.stdout.readline(), PATIENCE_SECONDS))
    assert await one_value(told["dsn"], "SELECT 1") == 1
    owner.send_signal(signal.SIGINT)
    await asyncio.wait_for(owner.wait(), PATIENCE_SECONDS)
    assert not is_running(told["process_id"])


async def test_two_servers_run_beside_each_other_and_two_owners_of_one_folder_do_not(
    shared: tuple[Path, EmbeddedServer], used: Path
) -> None:
    folder, one = shared
    async with embedded_postgres(used) as other:
        assert one.port != other.port
        assert await one_value(one.dsn(), "SELECT 1") == await one_value(other.dsn(), "SELECT 1")
        with pytest.raises(EmbeddedPostgresError, match="Another process is using"):
            async with embedded_postgres(folder):
                pass


async def test_a_taken_port_is_named(used: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError, match=f"Port {port} is taken"):
            async with embedded_postgres(used, port=port):
                pass


async def test_a_database_copied_from_a_template_has_its_tables_and_can_be_dropped_while_in_use(
    shared: tuple[Path, EmbeddedServer],
) -> None:
    _, server = shared
    template = await create_database(server, "a template")
    async with await psycopg.AsyncConnection.connect(template) as connection:
        await connection.execute("CREATE TABLE copied AS SELECT 3 AS answer")
    copy = await create_database(server, "copy é", template="a template")
    connection = await psycopg.AsyncConnection.connect(copy)
    assert await (await connection.execute("SELECT answer FROM copied")).fetchone() == (3,)
    await drop_database(server, "copy é")
    await connection.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        await one_value(copy, "SELECT 1")


async def test_no_variable_of_the_caller_reaches_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "xx_XX.none")
    async with embedded_postgres(tmp_path) as server:
        assert await one_value(server.dsn(), "SHOW lc_messages") == "C"
        inherited = Path(f"/proc/{server.process_id}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0] for entry in inherited if entry}
    # What the server itself adds for its children is not the caller's.
    assert {name for name in names if not name.startswith(b"PG_")} == {b"PATH", b"LC_ALL", b"TZ"}


async def test_an_unknown_version_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"no embedded PostgreSQL 17; there are \[16, 18\]"):
        async with embedded_postgres(tmp_path, version=17):
            pass


async def test_where_namespaces_are_refused_root_gets_a_private_copy_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the data folder below mode 700 stays closed, and the server still runs and keeps its data.

    Method: a PATH without `unshare`. An ordinary user never needs it, and nothing is copied.
    """
    # Not below pytest's own temporary folders, which are closed to the account the server runs as.
    private_root = Path("/var/lib") / f"mpesa-payment-service-test-{os.getpid()}"
    monkeypatch.setattr(postgres_account, "PRIVATE_ROOT", private_root)
    monkeypatch.setenv("PATH", str(tmp_path))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() != 0 and not postgres_account.has_a_name(os.geteuid()):
        # Neither a namespace nor the right to become somebody else: all that is left is to say so.
        with pytest.raises(EmbeddedPostgresError, match="needs an account with a name"):
            async with embedded_postgres(closed / "data"):
                pass
        return
    try:
        for run in (1, 2):
            async with embedded_postgres(closed / "data") as server:
                assert await one_value(server.dsn(), "SELECT 1") == 1
                assert (server.notice is not None) == (os.geteuid() == 0), run
                if server.notice is not None:
                    assert str(private_root) in server.notice
                    assert Path(f"/proc/{server.process_id}").stat().st_uid != 0
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(private_root, ignore_errors=True)
