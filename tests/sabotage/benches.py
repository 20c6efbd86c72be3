"""Where a fault is tried: a copy of the tree, database servers, and a process that runs the copy's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from development.postgres import EmbeddedServer, create_database, embedded_postgres
from development.slowness import slowness
from payment_service.store.migrations import ensure_application_role, migrate
from tests.conftest import EVERY_POSTGRES, UNSYNCED
from tests.databases import APPLICATION_ROLE, TEMPLATE

ROOT = Path(__file__).resolve().parents[2]
# In the copies what never comes is waited for less long, since most faults show by that. Long enough all the same: the
# untouched code must pass with it.
PATIENCE = ("60.0 * slowness()", "20.0 * slowness()")
# That pytest and its plugins are imported already is no news.
NO_NEWS = "ignore::pytest.PytestAssertRewriteWarning"
OPTIONS = ("-q", "-p", "no:cacheprovider", "--no-cov", "--tb=short", "-W", NO_NEWS)


@dataclass(frozen=True)
class Run:
    """A run of pytest; without a code it had to be ended."""

    code: int | None
    output: str
    processor_seconds: float = 0.0


@dataclass(frozen=True)
class Servers:
    """Migrated servers that outlive a run, and what was in each before the first one."""

    servers: Sequence[EmbeddedServer]
    application_password: str

    def as_json(self) -> dict[str, object]:
        return {"servers": [asdict(one) for one in self.servers], "application_password": self.application_password}

    def clean(self) -> None:
        """Remove what the run before has left: it may have been ended by force."""
        for server in self.servers:
            with psycopg.connect(server.dsn(), autocommit=True) as owner:
                for (name,) in owner.execute(LEFT_DATABASES, (TEMPLATE,)).fetchall():
                    owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
                for (name,) in owner.execute(LEFT_ROLES, (server.owner, APPLICATION_ROLE)).fetchall():
                    owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


LEFT_DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', %s)"
# The roles of the service itself are in the template.
LEFT_ROLES = r"""
SELECT rolname FROM pg_roles
WHERE rolname NOT LIKE 'pg\_%%' AND rolname NOT LIKE 'mpesa\_payments\_%%' AND rolname NOT IN (%s, %s)
"""


@contextlib.asynccontextmanager
async def migrated_servers(folder: Path) -> AsyncIterator[Servers]:
    """A server of every version that tests ask for."""
    password = secrets.token_urlsafe(16)
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for version in EVERY_POSTGRES:
            started = embedded_postgres(folder / f"postgres{version}", version=version, settings=UNSYNCED)
            server = await stack.enter_async_context(started)
            url = await create_database(server, TEMPLATE)
            await asyncio.to_thread(migrate, url)
            await asyncio.to_thread(ensure_application_role, url, APPLICATION_ROLE, password)
            servers.append(server)
        yield Servers(servers, password)


@dataclass
class Bench:
    """One copy, in which one run follows the other."""

    copy: Path
    process: asyncio.subprocess.Process

    async def run(self, arguments: Sequence[str], seconds_max: float, servers: Servers | None = None) -> Run:
        """Run tests of the copy, on servers of their own unless some are given."""
        output = self.copy / "output-of-the-run"
        if servers is not None:
            await asyncio.to_thread(servers.clean)
        given = servers.as_json() if servers is not None else None
        asked = {"arguments": [*OPTIONS, *arguments], "output": str(output), "servers": given}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        process_id = int(await self._told())
        code: int | None = None
        try:
            async with asyncio.timeout(seconds_max * slowness()):
                code = int(await self._told())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process_id, signal.SIGKILL)
            await self._told()
        used = await self._told()
        # What it has started and left is in its session, and ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process_id, signal.SIGKILL)
        return Run(code, output.read_text(errors="replace"), used)

    async def _told(self) -> float:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the process that runs the tests has ended"
        return float(line)


@contextlib.asynccontextmanager
async def bench(copy: Path) -> AsyncIterator[Bench]:
    """A bench for a folder with tests."""
    process = await asyncio.create_subprocess_exec(
        # Without the folder of that file in the path: it is no copy of anything.
        *(sys.executable, "-P", str(Path(__file__).with_name("forked_runs.py"))),
        cwd=copy,
        # Wide enough for the line that says which test failed, and why.
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(copy),
            "PYTHONPATH": f"{copy}:{copy / 'generated'}",
            "COLUMNS": "1000",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Bench(copy, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def copy_tree(copy: Path) -> None:
    """What git knows and does not ignore, as it stands in the work tree, but for its patience."""
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
    patience = copy / "tests" / "patience.py"
    patience.write_text(patience.read_text().replace(*PATIENCE))
