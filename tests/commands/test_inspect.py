"""The operators' commands as operators run them: processes, with the service's environment, on its database."""

import re
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from payment_service.application.inspecting.invariants import Invariant
from payment_service.application.settling.opened_bodies import shown
from payment_service.security.keys import create_keys
from tests.commands.started import command
from tests.databases import Database
from tests.stories import PHONE, Stories, uncertain_expired_and_paid_late
from tests.writers import Writers, a_request

"""A bound, not an expectation."""


@pytest.fixture
def stories(writers: Writers, tmp_path: Path) -> Stories:
    return Stories(writers, tmp_path)


@pytest.fixture
def environment(writers: Writers, database: Database, tmp_path: Path) -> Mapping[str, str]:
    # What belongs to `serve` alone is in the environment of a service too, and no reason to refuse.
    return {
        "PAYMENTS_DATABASE_URL": database.application_url,
        "PAYMENTS_KEYS_FILE": str(tmp_path / "keys.json"),
        "PAYMENTS_CALLBACK_BASE_URL": "https://payments.example",
        "PAYMENTS_DARAJA_CONSUMER_KEY_FILE": "/nonexistent",
    }


async def test_check_says_what_holds_and_fails_when_something_does_not(
    stories: Stories, environment: Mapping[str, str], database: Database
) -> None:
    payment = await uncertain_expired_and_paid_late(stories)
    code, output, errors = await command(environment, "check")
    assert (code, errors) == (0, "")
    assert [line for line in output.splitlines() if not line.startswith("holds")] == [
        f"all {len(Invariant)} hold, over 1 payments."
    ]
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE payment_events SET amount = 600 WHERE version = 3")
        owner.execute("UPDATE payment_transactions SET booking_action = 'WAIT'")
    code, output, _ = await command(environment, "check")
    assert code == 1
    assert f"VIOLATED  {Invariant.CHAIN.value}: 6 events, 1 violation\n" in output
    assert f"          {payment.payment_id}: version 3 is not what was hashed\n" in output
    assert f"VIOLATED  {Invariant.BOOKING.value}: 1 payments, 1 violation\n" in output
    assert PHONE[-9:] not in output
    assert (await command(environment, "check", "--since", "2200-01-01"))[0] == 0


async def test_check_says_beside_what_holds_how_many_callbacks_are_unread_and_open(
    stories: Stories, environment: Mapping[str, str]
) -> None:
    for bodies in ((b"not JSON",), (b"nor this", b"nor that")):
        payment = await stories.prompted()
        for body in bodies:
            await stories.body(payment.reference, body)
    code, output, errors = await command(environment, "check")
    assert (code, errors) == (0, "")
    assert output.splitlines()[-2:] == [
        f"all {len(Invariant)} hold, over 2 payments.",
        "3 callbacks cannot be read and wait for a person: payment-service cases list --kind UNREAD_CALLBACK",
    ]


async def test_explain_tells_the_whole_story_in_order(stories: Stories, environment: Mapping[str, str]) -> None:
    payment = await uncertain_expired_and_paid_late(stories)
    for name in (str(payment.payment_id), payment.reference):
        code, output, errors = await command(environment, "explain", name)
        assert (code, errors) == (0, "")
        told = [
            "version 1: CREATED  [the caller, development]",
            "version 2: CREATED → SENDING  [this service]",
            "push: HTTP 200 after 412 ms  [this service]",
            "version 3: SENDING → UNCERTAIN  [this service: Daraja's answer was lost]",
            "callback, APPLIED  [Safaricom, from 196.201.214.200]  led to version 4",
            "version 4: UNCERTAIN  [Safaricom, by callback]",
            "version 5: UNCERTAIN → EXPIRED  [a timer: no result in time]",
            "callback, APPLIED  [Safaricom, from 196.201.214.200]  led to version 6, led to case LATE_PAYMENT",
            "version 6: EXPIRED → COMPLETED  [Safaricom, by callback]",
            "receipt RCPT000001  [this service]  KES 500; it counts",
            "money case LATE_PAYMENT opened  [Safaricom, by callback]",
        ]
        places = [output.find(text) for text in told]
        missing = [text for text, place in zip(told, places, strict=True) if place < 0]
        assert missing == [], output
        assert places == sorted(places), output
        assert "KES 500 from 2547*****678; receipt RCPT000001, paid late" in output
        assert "its money: only a callback has told of it, and another source is being asked" in output
        assert not re.search(r"712\s?345\s?678", output)
        assert "ws_CO_0" not in output


async def test_explain_shows_the_row_of_the_books_that_settled_a_payment(
    stories: Stories, environment: Mapping[str, str]
) -> None:
    payment = await stories.unanswered()
    await stories.pulled(payment, "RCPT000001")
    code, output, errors = await command(environment, "explain", payment.reference)
    assert (code, errors) == (0, "")
    assert "pulled: HTTP 200 after 80 ms  [this service]  understood as OURS" in output
    assert '"transactionId": "RCPT000001"' in output
    assert "version 4: UNCERTAIN → COMPLETED  [Safaricom's books]" in output
    assert "its money: backed by Safaricom's books" in output
    assert PHONE[3:] not in output


async def test_explain_names_what_it_does_not_find(environment: Mapping[str, str], stories: Stories) -> None:
    await stories.payment()
    for name in (str(uuid4()), "bcdfghjknprt", f"0{PHONE[3:]}", "\x1b[2J"):
        code, output, errors = await command(environment, "explain", name)
        assert (code, output) == (1, "")
        assert errors.startswith("No payment has the id or reference ")
        assert PHONE[-9:] not in errors
        assert "\x1b" not in errors


async def test_a_story_with_hostile_bodies_is_told_in_plain_text(
    stories: Stories, environment: Mapping[str, str]
) -> None:
    payment = await stories.prompted(booking_id="BK-\x1b[31m[bold]red")
    await stories.body(payment.reference, b"\x1b[2J\x07 [red]not JSON[/red] \xff 0712345678")
    code, output, errors = await command(environment, "explain", payment.reference)
    assert (code, errors) == (0, "")
    assert "[bold]red" in output
    assert "\\x1b[2J\\x07 [red]not JSON[/red] \\\\xff 0*****678" in output
    assert not any(character in output for character in "\x1b\x07")


async def test_two_clocks_that_disagree_do_not_turn_the_story_round(
    stories: Stories, writers: Writers, environment: Mapping[str, str]
) -> None:
    payment = (await writers.create("development", a_request(), None, None)).payment
    writers.clock.move(-2)
    await stories.callback(payment.reference, receipt="RCPT000001")
    _, output, _ = await command(environment, "explain", payment.reference)
    assert 0 < output.find("version 1: CREATED") < output.find("version 2: CREATED → COMPLETED")


@pytest.mark.parametrize("words", [("check",), ("explain", "bcdfghjknprt")], ids=["check", "explain"])
async def test_what_is_missing_is_said_in_sentences(words: tuple[str, ...], tmp_path: Path) -> None:
    code, output, errors = await command({}, *words)
    assert (code, output) == (1, "")
    assert "PAYMENTS_DATABASE_URL or PAYMENTS_DATABASE_URL_FILE is not set" in errors
    assert "PAYMENTS_KEYS_FILE is not set" in errors
    nowhere = {"PAYMENTS_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c", "PAYMENTS_KEYS_FILE": str(tmp_path / "none")}
    code, _, errors = await command(nowhere, *words)
    assert code == 1
    assert "payment-service create-keys" in errors
    assert (await command({**nowhere, "PAYMENTS_SINGE": "1"}, *words))[2].startswith("PAYMENTS_SINGE is not a setting")


async def test_a_database_that_is_not_there_is_one_sentence(environment: Mapping[str, str], stories: Stories) -> None:
    await stories.payment()
    gone = {**environment, "PAYMENTS_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}
    code, output, errors = await command(gone, "check")
    assert (code, output) == (1, "")
    assert errors.startswith("The database of PAYMENTS_DATABASE_URL cannot be used: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "body",
    [
        b'{"PhoneNumber": 254712345678}',
        b'{"PhoneNumber": "\\u0032\\u00354712345678"}',
        b'{"CheckoutRequestID": "ws_CO_191220191020363925712345678"}',
        b'{"note": "call 0712 345 678 or +254712345678"}',
        b"PhoneNumber=254712345678",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5_000 + b"}",
    ],
    ids=["number", "escapes", "checkout id", "other notations", "no JSON", "deep", "long number"],
)
def test_no_body_shows_the_payers_number(body: bytes) -> None:
    told = shown(body, PHONE)
    assert not re.search(r"712[\s.-]?345[\s.-]?678", told)
    assert told.isascii() or "…" in told
    assert len(told) < 2_000


async def test_no_command_reads_with_the_keys_of_another_installation(
    stories: Stories, environment: Mapping[str, str], tmp_path: Path
) -> None:
    payment = await uncertain_expired_and_paid_late(stories)
    create_keys(tmp_path / "others.json")
    others = {**environment, "PAYMENTS_KEYS_FILE": str(tmp_path / "others.json")}
    for words in (
        ("check",),
        ("explain", payment.reference),
        ("callbacks", "list"),
        ("callbacks", "replay", str(uuid4()), "--reason", "once more"),
    ):
        code, output, errors = await command(others, *words)
        assert (code, output) == (1, "")
        assert "The sealing key in PAYMENTS_KEYS_FILE is not the one that this database" in errors
        assert "Traceback" not in errors
