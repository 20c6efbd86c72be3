"""The program that runs tests of a copy, each run in a process of its own, made by a fork.

A run of one test took some seconds of the processor before it began: to import pytest and what other projects wrote, to
time the machine, and to make and migrate a database server. None of it depends on a fault, so it is done once for a
copy. What this project wrote, and may be faulty, is imported in each run anew. Only `development.slowness` is imported
before, since it times the machine: a fault in it would not be seen here.

Runs are asked for by lines on standard input, one after the other, and told about on standard output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from development.slowness import SECONDS_TAKEN, slowness

# What takes longest of all that the tests import from elsewhere. A module that is missing here only costs time.
IMPORTED_ONCE = (
    "aiohttp.web",
    "alembic.command",
    "alembic.config",
    "anyio.pytest_plugin",
    "axe_playwright_python.async_playwright",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.x509",
    "google.protobuf.json_format",
    "google.rpc.error_details_pb2",
    "grpc.aio",
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "grpc_status.rpc_status",
    "httpx",
    "httpx_aiohttp",
    "hypothesis.strategies",
    "jinja2",
    "opentelemetry.metrics",
    "phonenumbers",
    "playwright.async_api",
    "psycopg.types.json",
    "psycopg_pool",
    "pydantic_settings",
    "pytest_asyncio.plugin",
    "pytest_cov.plugin",
    "pytest_timeout",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.ext.asyncio",
    "stamina",
    "structlog",
    "typer",
    "uuid_utils",
    "uvloop",
    "xdist.plugin",
)
# How busy the machine is changes while the faults are tried.
TIMED_AGAIN_AFTER_SECONDS = 120.0


class GivenServers:
    """A pytest plugin: servers that run and are migrated already, in the place of those that a run would start."""

    def __init__(self, servers: Mapping[str, Any]) -> None:
        from development.postgres import EmbeddedServer

        by_version = {server["version"]: EmbeddedServer(**server) for server in servers["servers"]}

        async def server(version: int) -> EmbeddedServer:
            return by_version[version]

        self.values = {
            "postgres_servers": server,
            "migrated_servers": server,
            "application_password": servers["application_password"],
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> object | None:
        value = self.values.get(fixturedef.argname)
        if value is not None:
            # As pytest's own implementation of this hook does.
            fixturedef.cached_result = (value, fixturedef.cache_key(request), None)  # type: ignore[arg-type]  # a SubRequest, in its base class
        return value


def main() -> None:
    for name in IMPORTED_ONCE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # It stays, and no run has to look through it for garbage: that took as long as all else before the test begins.
    gc.freeze()
    timed_at = float("-inf")
    for line in sys.stdin:
        if time.monotonic() - timed_at > TIMED_AGAIN_AFTER_SECONDS:
            # Every run has it from here.
            os.environ.pop(SECONDS_TAKEN, None)  # noqa: TID251 -- what it took the last time, not a setting
            slowness.cache_clear()
            slowness()
            timed_at = time.monotonic()
        asked = json.loads(line)
        process_id = os.fork()
        if process_id == 0:
            code = run_tests(**asked)
            # Nor at its end.
            gc.freeze()
            sys.exit(code)
        tell(process_id)
        _, status, used = os.wait4(process_id, 0)
        tell(os.waitstatus_to_exitcode(status))
        tell(used.ru_utime + used.ru_stime)


def tell(number: float) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def run_tests(arguments: list[str], output: str, servers: Mapping[str, Any] | None) -> int:
    """In the new process: run pytest, in a session that all it starts belongs to."""
    os.setsid()
    with Path(os.devnull).open("rb") as nothing, Path(output).open("wb") as written:
        os.dup2(nothing.fileno(), 0)
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    return pytest.main(arguments, plugins=[GivenServers(servers)] if servers is not None else [])


if __name__ == "__main__":
    main()
