"""An embedded PostgreSQL: real server binaries from a wheel, started and stopped by us.

Nothing has to be installed, and nothing is left running: a server ends with the process that asked for it, also when
that process is killed with SIGKILL (`postgres_watchdog`). It listens on loopback TCP with a password and on no socket
path, because a path below a deep folder is easily longer than the 107 bytes the kernel allows.

Two locks in the data folder settle every question of who lives there, with no trust in process ids, which the kernel
reuses. `owner.lock` is held by the process that asked for the server: two owners at once are refused. `server.lock` is
inherited by the watchdog, by initdb and by every process of the server, so it is free only when all of them are gone.
Whoever holds both and finds a `postmaster.pid` has found a leftover.

As whom the server runs is decided in `postgres_account`; which databases exist is up to the callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from development.postgres_account import Account, EmbeddedPostgresError, choose_account

__all__ = ["EmbeddedPostgresError", "EmbeddedServer", "create_database", "drop_database", "embedded_postgres"]

HOST = "127.0.0.1"
OWNER = "payments_owner"

# What a server for money needs, said aloud: a changed default must not weaken a test or a benchmark unseen.
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Several service processes with a pool each, the tests' own connections, and room to spare.
    "max_connections": "200",
    # The passwords are long and random: nobody guesses them, however little a guess costs. A connection costs half.
    "scram_iterations": "1",
    # Compiling a plan pays off in reports, not in the small statements of this service.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

INITDB_TIMEOUT_SECONDS = 120
# A start after a crash replays the log first.
START_TIMEOUT_SECONDS = 120
# The watchdog's own patience, 30 s and 10 s, and a little more.
STOP_TIMEOUT_SECONDS = 60
# The same patience with a server whose owner died: SIGINT, then SIGQUIT, then it is an error.
LEFTOVER_TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.02
# A port found free can be taken before the server binds it; five clashes in a row are something else.
PORT_ATTEMPTS = 5
# Below those that Linux gives to outgoing connections: one of them would take the port before its server does.
FREE_PORTS = range(20_000, 32_000)
PORTS_TRIED = 100


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server. The owner is its superuser."""

    version: int
    host: str
    port: int
    owner: str
    process_id: int
    notice: str | None
    password: str = field(repr=False)

    def dsn(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A URL for `database`, as the owner unless another user and password are given."""
        name = quote(user or self.owner, safe="")
        word = quote(password if password is not None else self.password, safe="")
        return f"postgresql://{name}:{word}@{self.host}:{self.port}/{quote(database, safe='')}"


@contextlib.asynccontextmanager
async def embedded_postgres(
    data_dir: Path, *, version: int = 18, port: int = 0, settings: Mapping[str, str] | None = None
) -> AsyncIterator[EmbeddedServer]:
    """Run a server on `data_dir`, made at the first run and found again at the next; port 0 picks a free one."""
    data_dir = data_dir.absolute()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = await asyncio.to_thread(choose_account, data_dir, version)
    cluster = account.state_dir / f"postgresql-{version}"
    with hold_ownership(data_dir), await hold_server_lock(data_dir, cluster) as server_lock:
        remove_leftovers(cluster)
        password = await ensure_cluster(account, cluster, data_dir, server_lock)
        options = {**SETTINGS, **(settings or {})}
        watchdog, chosen_port = await start_on_a_port(account, cluster, data_dir, server_lock, port, options)
        # From here on only the watchdog and the server hold the lock.
        os.close(server_lock.detach())
        try:
            process_id = int(read_pid_file(cluster)[0])
            yield EmbeddedServer(version, HOST, chosen_port, OWNER, process_id, account.notice, password)
        finally:
            await asyncio.shield(stop(watchdog, cluster, data_dir))


async def create_database(server: EmbeddedServer, name: str, template: str | None = None) -> str:
    """Create a database, as a copy of `template` if one is named, and return its URL for the owner."""
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        # Copying the files takes a third of the time of logging each page, which is what PostgreSQL does unless told.
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        statement = copy.format(sql.Identifier(name), sql.Identifier(template))
    async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True, connect_timeout=30) as connection:
        await connection.execute(statement)
    return server.dsn(name)


async def drop_database(server: EmbeddedServer, name: str) -> None:
    """Drop a database, also while somebody is still connected to it."""
    async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True, connect_timeout=30) as connection:
        await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.asynccontextmanager
async def transaction_left_open(server: EmbeddedServer, name: str, statement: str, value: str) -> AsyncIterator[None]:
    """Run a statement with one value and leave its transaction open meanwhile, as somebody at a console may."""
    async with await psycopg.AsyncConnection.connect(server.dsn(name), connect_timeout=30) as connection:
        await connection.execute(statement.encode(), (value,))
        yield


class LockFile:
    """An open file whose lock lasts for as long as any process has it open."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lock(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def detach(self) -> int:
        fd, self.fd = self.fd, -1
        return fd

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.detach())


@contextlib.contextmanager
def hold_ownership(data_dir: Path) -> Iterator[None]:
    with LockFile(data_dir / "owner.lock") as lock:
        if not lock.try_lock():
            raise EmbeddedPostgresError(f"Another process is using {data_dir}: stop it or choose another --data-dir.")
        yield


async def hold_server_lock(data_dir: Path, cluster: Path) -> LockFile:
    """Wait until a server whose owner has died is gone; told again, in case that its watchdog died too."""
    lock = LockFile(data_dir / "server.lock")
    if lock.try_lock():
        return lock
    for order in (signal.SIGINT, signal.SIGQUIT):
        if (leftover := living_postmaster(cluster)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leftover, order)
        for _ in range(int(LEFTOVER_TIMEOUT_SECONDS / POLL_SECONDS)):
            if lock.try_lock():
                return lock
            await asyncio.sleep(POLL_SECONDS)
    os.close(lock.detach())
    raise EmbeddedPostgresError(f"An earlier PostgreSQL on {data_dir} does not stop: see {data_dir / 'server.log'}.")


def remove_leftovers(cluster: Path) -> None:
    """With both locks held, what an earlier run left behind can go, unless someone started a server by hand."""
    shutil.rmtree(unfinished_cluster(cluster), ignore_errors=True)
    if (postmaster := living_postmaster(cluster)) is not None:
        raise EmbeddedPostgresError(f"PostgreSQL process {postmaster} runs on {cluster} and was not started by us.")
    # Left in place, a process id that now belongs to another process would keep the server from starting.
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def living_postmaster(cluster: Path) -> int | None:
    """The process named in postmaster.pid, if it lives and really is this cluster's server."""
    try:
        process_id = int(read_pid_file(cluster)[0])
        os.kill(process_id, 0)
    except (OSError, ValueError, IndexError):
        return None
    proc = Path("/proc") / str(process_id)
    if proc.exists():
        # A server's working directory is its data directory.
        try:
            return process_id if (proc / "cwd").samefile(cluster) else None
        except OSError:
            return None
    listing = subprocess.run(
        ["ps", "-p", str(process_id), "-o", "args="], check=False, capture_output=True, text=True, timeout=10
    )
    return process_id if str(cluster) in listing.stdout else None


def read_pid_file(cluster: Path) -> list[str]:
    return (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()


def unfinished_cluster(cluster: Path) -> Path:
    return cluster.with_name(f"{cluster.name}.unfinished")


async def ensure_cluster(account: Account, cluster: Path, data_dir: Path, lock: LockFile) -> str:
    """Make the cluster at the first run, and return the owner's password."""
    password_file = account.state_dir / f"{cluster.name}.owner-password"
    if cluster.exists():
        return password_file.read_text(encoding="ascii").strip()
    password = secrets.token_urlsafe(24)
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(password + "\n", encoding="ascii")
    if account.user_id is not None and account.group_id is not None:
        os.chown(password_file, account.user_id, account.group_id)
    unfinished = unfinished_cluster(cluster)
    words = account.command("initdb", "-D", str(unfinished), "-U", OWNER, f"--pwfile={password_file}")
    words += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
    words += ["-c", f"scram_iterations={SETTINGS['scram_iterations']}"]
    log_path = data_dir / "initdb.log"
    watchdog = await start_watchdog(account, words, log_path, lock)
    try:
        await asyncio.wait_for(watchdog.wait(), INITDB_TIMEOUT_SECONDS)
    except BaseException:
        await give_up(watchdog, cluster, data_dir, lock)
        raise
    if watchdog.stdin is not None:
        watchdog.stdin.close()
    if watchdog.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed:\n{last_lines(log_path)}")
    # Renamed only now, so that a first run cut short starts over instead of finding half a cluster.
    unfinished.rename(cluster)
    return password


def plain_environment() -> dict[str, str]:
    """No PG* variable, locale or library path of the caller's reaches the server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


async def start_on_a_port(
    account: Account, cluster: Path, data_dir: Path, lock: LockFile, port: int, settings: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, int]:
    log_path = data_dir / "server.log"
    for _ in range(PORT_ATTEMPTS):
        chosen = port or find_free_port()
        command = account.command("postgres", "-D", str(cluster), "-p", str(chosen))
        for name, value in {**settings, "listen_addresses": HOST, "unix_socket_directories": ""}.items():
            command += ["-c", f"{name}={value}"]
        watchdog = await start_watchdog(account, command, log_path, lock)
        try:
            if await becomes_ready(watchdog, cluster):
                return watchdog, chosen
        except BaseException:
            await give_up(watchdog, cluster, data_dir, lock)
            raise
        report = last_lines(log_path)
        if "Address already in use" not in report:
            raise EmbeddedPostgresError(f"PostgreSQL did not start:\n{report}")
        if port:
            raise EmbeddedPostgresError(f"Port {port} is taken, so PostgreSQL cannot listen on it.")
    raise EmbeddedPostgresError(f"Found no free port in {PORT_ATTEMPTS} attempts.")


def find_free_port() -> int:
    """A port on which nothing listened a moment ago, and which no outgoing connection is given meanwhile."""
    for port in random.SystemRandom().sample(FREE_PORTS, PORTS_TRIED):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise EmbeddedPostgresError(f"Found no free port among {PORTS_TRIED}, from {FREE_PORTS[0]} to {FREE_PORTS[-1]}.")


async def start_watchdog(
    account: Account, command: list[str], log_path: Path, lock: LockFile
) -> asyncio.subprocess.Process:
    """Run a command that ends with us, as the account says, and holds the server's lock for as long as it lives."""
    # Isolated and without site-packages: the watchdog must start fast and depend on nothing.
    words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("postgres_watchdog.py"))]
    words.append(f"--lock-fd={lock.fd}")
    if account.user_id is not None:
        words += [f"--user={account.user_id}", f"--group={account.group_id}"]
    if log_path.exists():
        # The log of the run before is what one wants to read after a crash.
        log_path.replace(log_path.with_suffix(".log.previous"))
    with log_path.open("wb") as log:
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *words,
                "--",
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=plain_environment(),
                pass_fds=(lock.fd,),
                # A Ctrl-C in the terminal is for the owner, who then stops the server in its own order.
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A start that is cancelled itself kills the watchdog, and whoever that has started by then would live on.
            await asyncio.shield(end(await asyncio.shield(starting)))
            raise


async def becomes_ready(watchdog: asyncio.subprocess.Process, cluster: Path) -> bool:
    """False when the server ended instead. The eighth line of postmaster.pid is the server's own word."""
    for _ in range(int(START_TIMEOUT_SECONDS / POLL_SECONDS)):
        if watchdog.returncode is not None:
            return False
        with contextlib.suppress(OSError):
            lines = read_pid_file(cluster)
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
        await asyncio.sleep(POLL_SECONDS)
    raise EmbeddedPostgresError(f"PostgreSQL was not ready within {START_TIMEOUT_SECONDS} s.")


async def give_up(watchdog: asyncio.subprocess.Process, cluster: Path, data_dir: Path, lock: LockFile) -> None:
    """Stop what was started, before it serves: held by us still, the lock would seem to be a leftover's."""
    os.close(lock.detach())
    await asyncio.shield(stop(watchdog, cluster, data_dir))


async def stop(watchdog: asyncio.subprocess.Process, cluster: Path, data_dir: Path) -> None:
    """End the watchdog; a server that lost its watchdog is stopped by way of its lock."""
    await end(watchdog)
    with await hold_server_lock(data_dir, cluster):
        return


async def end(watchdog: asyncio.subprocess.Process) -> None:
    """Close the pipe, which is the order to stop, and wait."""
    if watchdog.stdin is not None:
        watchdog.stdin.close()
    await asyncio.wait_for(watchdog.wait(), STOP_TIMEOUT_SECONDS)


def last_lines(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
