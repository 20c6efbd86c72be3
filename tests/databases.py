"""The database that a test is given, and the servers that hold such databases."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from development.postgres import EmbeddedServer, LockFile

APPLICATION_ROLE = "payments_application"
TEMPLATE = "migrated_template"
NEWEST_POSTGRES = 18

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 4 * 1024**3
LEFT_AFTER_SECONDS = 3600
_PREFIX = "payment-service-tests-"

PostgresServers = Callable[[int], Awaitable[EmbeddedServer]]


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test's own. The owner migrates; the service runs as the application."""

    name: str
    server: EmbeddedServer
    owner_url: str
    application_url: str


@contextlib.contextmanager
def servers_folder(usual: Path) -> Iterator[Path]:
    """Where the servers of a run keep their files: in memory, where there is room for them.

    Each test has a database of its own, and to create and to drop one touches some 600 files.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_NEEDED:
        yield usual
        return
    for folder in MEMORY.glob(f"{_PREFIX}*"):
        _remove_if_left(folder)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=MEMORY, ignore_cleanup_errors=True) as name,
        LockFile(Path(name) / "run.lock") as lock,
    ):
        lock.try_lock()
        yield Path(name)


def _remove_if_left(folder: Path) -> None:
    """By a run that was killed: nobody holds its lock, and it is not one that is just beginning."""
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_ctime > LEFT_AFTER_SECONDS:
            with LockFile(folder / "run.lock") as lock:
                if lock.try_lock():
                    shutil.rmtree(folder, ignore_errors=True)
