"""`payment-service callbacks` as operators run it: processes, with the service's environment, on its database."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from payment_service.application.settling import apply_kept_callbacks as settle_callbacks
from payment_service.application.settling.apply_kept_callbacks import InboxTools, apply_pending_callbacks
from payment_service.commands.account import account
from payment_service.domain.payment import Payment
from payment_service.store.engines import read_engine
from tests.commands.started import command
from tests.databases import Database
from tests.rows import rows_of
from tests.stories import PHONE, Stories
from tests.writers import Writers

UNMATCHED = "bcdfghjknprt"


@pytest.fixture
def stories(writers: Writers, tmp_path: Path) -> Stories:
    return Stories(writers, tmp_path)


@pytest.fixture
async def tools(writers: Writers, database: Database) -> AsyncIterator[InboxTools]:
    engine = read_engine(database.application_url)
    yield InboxTools(engine, writers.facts, writers.sealer, writers.clock)
    await engine.dispose()


@pytest.fixture
def environment(writers: Writers, database: Database, tmp_path: Path) -> Mapping[str, str]:
    return {
        "PAYMENTS_DATABASE_URL": database.application_url,
        "PAYMENTS_KEYS_FILE": str(tmp_path / "keys.json"),
        "PAYMENTS_CALLBACK_BASE_URL": "https://payments.example",
        "PAYMENTS_EXPIRE_AFTER_S": "120",
    }


async def one_of_each(stories: Stories, tools: InboxTools, database: Database) -> tuple[Payment, Payment]:
    """A dead callback, a pending one, a parked one; the payments of the first two."""
    dead, pending = await stories.prompted(), await stories.prompted()
    stop = "REVOKE INSERT ON payment_events FROM mpesa_payments_application"
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(stop)
        await stories.callback(dead.reference, receipt="RCPT000001")
        stories.writers.clock.move(10)
        await apply_pending_callbacks(tools)
        await stories.callback(pending.reference, receipt="RCPT000002")
        owner.execute(stop.replace("REVOKE", "GRANT").replace(" FROM ", " TO "))
    await stories.callback(UNMATCHED, receipt="RCPT000003")
    return dead, pending


async def ids(database: Database) -> Mapping[str, UUID]:
    rows = await rows_of(database, "SELECT status, callback_id FROM callback_inbox")
    return dict(rows)


async def test_what_is_not_applied_is_listed_shown_replayed_and_explained(
    stories: Stories,
    tools: InboxTools,
    environment: Mapping[str, str],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settle_callbacks, "TRIES_MAX", 1)
    payment, _ = await one_of_each(stories, tools, database)
    callback = await ids(database)
    code, output, errors = await command(environment, "callbacks", "list")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [str(callback[status]), status] for status in ("DEAD", "PENDING", "UNMATCHED")
    ]
    assert f"payment {payment.payment_id}  PAID (0), KES 500, receipt RCPT000001; given up after 1 tries: " in lines[0]
    assert "waits to be applied again at 2" in lines[1]
    assert f"{UNMATCHED}  no payment  PAID (0), KES 500, receipt RCPT000003; waits for its payment" in lines[2]
    _, only, _ = await command(environment, "callbacks", "list", "--status", "dead", "--limit", "1")
    assert only == lines[0] + "\n"
    _, short, _ = await command(environment, "callbacks", "list", "--limit", "2")
    assert "There are more" in short
    dead = str(callback["DEAD"])
    code, shown, _ = await command(environment, "callbacks", "show", dead)
    assert code == 0
    assert "case CALLBACK_GIVEN_UP opened" in shown
    assert '"MpesaReceiptNumber"' in shown
    code, parked, _ = await command(environment, "callbacks", "show", str(callback["UNMATCHED"]))
    assert code == 0
    for text in (output, shown, parked):
        assert not re.search(r"712\s?345\s?678", text)
    for _ in range(2):
        code, said, errors = await command(environment, "callbacks", "replay", dead, "--reason", "mended; 0712345678")
        assert (code, errors) == (0, "")
        assert said == f"Callback {dead}: applied to payment {payment.payment_id}, which is COMPLETED now.\n"
    _, story, _ = await command(environment, "explain", payment.reference)
    assert story.count(f"callback replayed, APPLIED  [operator {account()}]  mended; [masked]\n") == 2
    assert "money case" not in story
    assert "case CALLBACK_GIVEN_UP settled  [this service]" in story
    assert "version 4: PROMPTED → COMPLETED" in story
    assert "version 5" not in story, "the second replay has changed nothing"
    assert (await command(environment, "check"))[0] == 0
    code, said, _ = await command(
        environment, "callbacks", "replay", str(callback["UNMATCHED"]), "--reason", "is it there?"
    )
    assert (code, said) == (
        0,
        f"Callback {callback['UNMATCHED']}: still for no payment: it waits until there is one.\n",
    )
    _, output, _ = await command(environment, "callbacks", "list", "--status", "dead")
    assert output == "There is none.\n"


async def test_what_cannot_be_read_is_listed_as_unread_and_stays_so_until_it_can_be(
    stories: Stories, environment: Mapping[str, str], database: Database
) -> None:
    payment = await stories.prompted()
    await stories.body(payment.reference, b'{"Body": {"stkCallback": {"ResultCode": 0')
    callback = (await ids(database))["UNREAD"]
    _, output, _ = await command(environment, "callbacks", "list", "--status", "unread")
    assert output.startswith(f"{callback}  UNREAD ")
    assert "nothing that can be read; cannot be read, and may tell of money" in output
    _, said, _ = await command(environment, "callbacks", "replay", str(callback), "--reason", "once more")
    assert said == f"Callback {callback}: still cannot be read: its case is for a person.\n"
    assert list(await ids(database)) == ["UNREAD"]
    _, story, _ = await command(environment, "explain", payment.reference)
    assert "callback, UNREAD" in story
    assert "UNREAD_CALLBACK" in story
    assert (await command(environment, "check"))[0] == 0


async def test_a_callback_that_is_not_there_is_one_sentence(
    stories: Stories, environment: Mapping[str, str], database: Database
) -> None:
    await stories.callback(UNMATCHED, receipt="RCPT000001")
    nobody = str(uuid4())
    for words in (("show", nobody), ("replay", nobody, "--reason", "lost")):
        code, output, errors = await command(environment, "callbacks", *words)
        assert (code, output) == (1, "")
        assert errors.startswith(f"No callback has the id {nobody}: ")
        assert "Traceback" not in errors
    (callback_id,) = (await ids(database)).values()
    for reason in ("", " ", "x" * 201):
        code, _, errors = await command(environment, "callbacks", "replay", str(callback_id), "--reason", reason)
        assert (code, errors) == (1, "--reason has to say why, in at most 200 characters.\n")
    assert await rows_of(database, "SELECT * FROM callback_replays") == []


async def test_a_replay_that_cannot_be_done_says_so_and_is_noted(
    stories: Stories, tools: InboxTools, environment: Mapping[str, str], database: Database
) -> None:
    await one_of_each(stories, tools, database)
    callback_id = (await ids(database))["PENDING"]
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON payment_events FROM mpesa_payments_application")
        code, output, errors = await command(environment, "callbacks", "replay", str(callback_id), "--reason", "try")
        owner.execute("GRANT INSERT ON payment_events TO mpesa_payments_application")
    assert (code, output) == (1, "")
    last = errors.splitlines()[-1]
    assert last.startswith(f"Callback {callback_id} could not be applied (InsufficientPrivilege")
    assert last.endswith("It is still there.")
    assert PHONE[-9:] not in errors
    assert await rows_of(database, "SELECT outcome FROM callback_replays") == [("FAILED",)]
