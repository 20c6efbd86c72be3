"""`payment-service audit`: whoever alters the log, or makes a payment vanish, is found by what is kept outside."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from rich.console import Console

from payment_service.anchor_file import AnchorTools, anchor_days
from payment_service.application.recording.record_facts import Submission
from payment_service.commands.audit_steps import append, compare
from payment_service.commands.inspect import NotAllHolds
from payment_service.config import AuditSettings
from payment_service.security.keys import create_keys, load_keys
from payment_service.store.migrations import ensure_reader_role
from tests.application.rekeying.rotating import Step
from tests.commands.started import command
from tests.databases import Database
from tests.rpc.processes import paid, sent
from tests.writers import Clock, a_request, running_writers

READER, PASSWORD = "payments_audit_reader", "only reads"
BEGAN = (datetime.now(UTC) - timedelta(days=5)).replace(hour=10, minute=30)


@dataclass(frozen=True)
class Auditor:
    """Somebody with a role that only reads, and a file that nobody else writes."""

    database: Database
    folder: Path
    payments: tuple[UUID, ...]

    @property
    def anchors(self) -> Path:
        return self.folder / "anchors.jsonl"

    @property
    def reader_url(self) -> str:
        return self.database.server.dsn(self.database.name, READER, PASSWORD)

    async def anchor(self) -> str:
        return await self._say(append)

    async def verify(self) -> list[str]:
        """What was altered."""
        try:
            said = await self._say(compare)
        except NotAllHolds as found:
            said = found.args[0]
        return [line.removeprefix("ALTERED  ") for line in said.splitlines() if line.startswith("ALTERED")]

    async def _say(self, step: Step) -> str:
        said = io.StringIO()
        settings = AuditSettings(
            database_url=SecretStr(self.reader_url),
            keys_file=self.folder / "keys.json",
            audit_anchor_file=self.anchors,
        )
        try:
            await step(settings, Console(file=said, width=1_000))
        except NotAllHolds:
            raise NotAllHolds(said.getvalue()) from None
        return said.getvalue()

    def alter(self, *statements: str) -> None:
        """As the owner of the database, who can do everything there."""
        with psycopg.connect(self.database.owner_url) as owner:
            for statement in statements:
                owner.execute(statement, {"first": self.payments[0], "second": self.payments[1]})


@pytest.fixture
async def auditor(database: Database, tmp_path: Path) -> Auditor:
    """Three payments of three days ago, paid on that day and the next, and the anchors up to yesterday."""
    create_keys(tmp_path / "keys.json")
    ensure_reader_role(database.owner_url, READER, PASSWORD)
    clock, payments = Clock(BEGAN), []
    async with running_writers(database.application_url, tmp_path, clock=clock) as writers:
        for number in (1, 2, 3):
            made = (await writers.create("development", a_request(), None, None)).payment
            for fact in sent(number):
                await writers.facts.submit(Submission(fact, made.payment_id))
            if number > 1:
                clock.move(86_400 if number == 2 else 0)
                await writers.facts.submit(Submission(paid(f"RECEIPT{number:03d}"), made.payment_id))
            payments.append(made.payment_id)
    found = Auditor(database, tmp_path, tuple(payments))
    await found.anchor()
    return found


def lines_of(auditor: Auditor) -> list[str]:
    return auditor.anchors.read_text().splitlines()


async def test_a_log_that_nobody_touched_is_what_the_anchors_say(auditor: Auditor) -> None:
    assert await auditor.verify() == []
    days = [json.loads(line)["day"] for line in lines_of(auditor)]
    assert days[0] == BEGAN.date().isoformat()
    assert days == [(BEGAN.date() + timedelta(days=index)).isoformat() for index in range(len(days))]
    assert sum(json.loads(line)["payments"] for line in lines_of(auditor)) == 3
    before, said = lines_of(auditor), await auditor.anchor()
    # A day may have ended meanwhile.
    assert lines_of(auditor)[: len(before)] == before
    assert said.startswith(f"{len(lines_of(auditor)) - len(before)} days were anchored")


@pytest.mark.parametrize(
    ("statements", "finding"),
    [
        pytest.param(
            ["UPDATE payment_events SET amount = 5 WHERE payment_id = %(first)s AND version = 2"],
            "version 2 is not what was hashed",
            id="edited",
        ),
        pytest.param(
            ["DELETE FROM payment_events WHERE payment_id = %(first)s AND version = 2"],
            "its events 1, 3",
            id="removed",
        ),
        pytest.param(
            [
                "CREATE TEMP TABLE copied AS SELECT * FROM payment_events WHERE payment_id = %(first)s AND version = 2",
                "UPDATE copied SET version = 4, fact_id = 'another'",
                "ALTER TABLE copied DROP COLUMN position",
                (
                    "DO $$ DECLARE names text; BEGIN SELECT string_agg(attname, ',') INTO names FROM pg_attribute"
                    " WHERE attrelid = 'copied'::regclass AND attnum > 0 AND NOT attisdropped;"
                    " EXECUTE format('INSERT INTO payment_events (%%s) SELECT %%s FROM copied', names, names); END $$"
                ),
            ],
            "its events 1, 2, 3, 4",
            id="inserted",
        ),
        pytest.param(
            [
                (
                    "UPDATE payment_transactions p SET version = 2, chain_hash = e.hash FROM payment_events e"
                    " WHERE p.payment_id = %(first)s AND e.payment_id = p.payment_id AND e.version = 2"
                ),
                "DELETE FROM payment_events WHERE payment_id = %(first)s AND version = 3",
            ],
            "there are",
            id="cut off at its end",
        ),
        pytest.param(
            [
                "DELETE FROM mpesa_receipts WHERE payment_id = %(second)s",
                "DELETE FROM cases WHERE payment_id = %(second)s",
                "DELETE FROM payment_events WHERE payment_id = %(second)s",
                "DELETE FROM payment_transactions WHERE payment_id = %(second)s",
            ],
            "and 2 new payments, and there are 3 and 1",
            id="a payment that is gone with all that is of it",
        ),
    ],
)
async def test_whatever_is_done_to_the_log_is_found(auditor: Auditor, statements: list[str], finding: str) -> None:
    auditor.alter(*statements)
    found = await auditor.verify()
    assert any(finding in one for one in found), found


async def test_a_payment_that_is_gone_leaves_chains_that_hold_and_a_day_that_does_not(auditor: Auditor) -> None:
    """Why the anchors are kept: without them nothing tells of it."""
    auditor.alter(
        "DELETE FROM mpesa_receipts WHERE payment_id = %(second)s",
        "DELETE FROM cases WHERE payment_id = %(second)s",
        "DELETE FROM payment_events WHERE payment_id = %(second)s",
        "DELETE FROM payment_transactions WHERE payment_id = %(second)s",
    )
    found = await auditor.verify()
    assert all("UTC: there were" in one for one in found), "the chains of the other payments hold"
    assert {one[:13] for one in found} == {f"{BEGAN:%Y-%m-%d %H}", f"{BEGAN + timedelta(days=1):%Y-%m-%d %H}"}


async def test_an_event_that_was_put_in_the_place_of_another_is_found(auditor: Auditor) -> None:
    """Also by somebody who has the key of the chain: as many are there, and they are others."""
    auditor.alter(
        "UPDATE payment_events SET hash = sha256(hash) WHERE payment_id = %(first)s AND version = 3",
        "UPDATE payment_transactions SET chain_hash = sha256(chain_hash) WHERE payment_id = %(first)s",
    )
    (found,) = [one for one in await auditor.verify() if "UTC: there were" in one]
    assert found.endswith("and as many are there, but not the same ones")


def _changed(lines: list[str]) -> list[str]:
    """As by somebody who has no key."""
    line = json.loads(lines[0])
    line["events"] += 1
    line["hours"][0][0] += 1
    return [json.dumps(line), *lines[1:]]


def _changed_for_people(lines: list[str]) -> list[str]:
    return [lines[0].replace('"events":', '"events":1'), *lines[1:]]


@pytest.mark.parametrize(
    ("alter", "finding"),
    [
        pytest.param(_changed, "was not made with a key of this service", id="a number is changed"),
        pytest.param(_changed_for_people, "follows another, which is missing", id="a sum is changed"),
        pytest.param(lambda lines: [lines[0], *lines[2:]], "does not follow that of", id="a line is taken out"),
        pytest.param(lambda lines: lines[:-2], "no day has an anchor from", id="the end is cut off"),
        pytest.param(lambda lines: [], "there is no anchor in the file", id="the file is emptied"),
    ],
)
async def test_a_file_of_anchors_that_was_altered_is_found(
    auditor: Auditor, alter: Callable[[list[str]], list[str]], finding: str
) -> None:
    auditor.anchors.write_text("".join(f"{line}\n" for line in alter(lines_of(auditor))))
    found = await auditor.verify()
    assert any(finding in one for one in found), found


async def test_a_line_that_a_power_cut_has_torn_is_made_anew(auditor: Auditor) -> None:
    whole = lines_of(auditor)
    torn = "".join(f"{line}\n" for line in whole[:-1]) + whole[-1][:40]
    auditor.anchors.write_text(torn)
    await auditor.anchor()
    assert auditor.anchors.read_text().startswith(f"{torn}\n{whole[-1]}\n"), "what was there stays"
    assert await auditor.verify() == []


async def test_the_service_anchors_by_itself_and_two_processes_do_not_do_it_twice(auditor: Auditor) -> None:
    before = auditor.anchors.read_text()
    auditor.anchors.unlink()
    ring = load_keys(auditor.folder / "keys.json").chain
    tools = AnchorTools(auditor.anchors, auditor.database.application_url, ring)
    for _ in range(2):
        await anchor_days(tools)
    assert auditor.anchors.read_text().startswith(before)
    days = [json.loads(line)["day"] for line in lines_of(auditor)]
    assert len(days) == len(set(days))


async def test_the_commands_end_as_scripts_expect(auditor: Auditor) -> None:
    environment = {
        "PAYMENTS_DATABASE_URL": auditor.reader_url,
        "PAYMENTS_KEYS_FILE": str(auditor.folder / "keys.json"),
        "PAYMENTS_AUDIT_ANCHOR_FILE": str(auditor.anchors),
    }
    code, said, errors = await command(environment, "audit", "verify")
    assert (code, errors) == (0, "")
    assert "3 payments and" in said
    assert "nothing was altered" in said
    auditor.alter("UPDATE payment_events SET amount = 5 WHERE payment_id = %(first)s AND version = 2")
    code, said, _ = await command(environment, "audit", "verify")
    assert (code, said.splitlines()[0]) == (1, f"ALTERED  {auditor.payments[0]}: version 2 is not what was hashed")
    del environment["PAYMENTS_AUDIT_ANCHOR_FILE"]
    code, _, errors = await command(environment, "audit", "anchor")
    assert (code, "Name the file of anchors" in errors) == (1, True)
