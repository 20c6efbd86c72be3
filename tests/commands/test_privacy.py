"""`payment-service privacy` as operators type it: what is kept about a person is given out, or the number is erased."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.domain.payment import CancelRequest
from payment_service.store.person_records import ABOUT_PAYMENT, ABOUT_PHONE
from tests.commands.started import command
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.processes import Process
from tests.stories import PHONE, Stories, every_kind
from tests.writers import withdraw


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


async def exported(environment: Mapping[str, str], *words: str) -> dict[str, Any]:
    asked = ("privacy", "export", *words, "--reason", "the passenger has asked for it", "--operator", "amina")
    code, document, errors = await command(environment, *asked)
    assert (code, errors) == (0, "")
    found: dict[str, Any] = json.loads(document)
    return found


async def test_everything_that_is_kept_about_a_number_is_given_out_in_clear(
    process: Process, environment: Mapping[str, str], database: Database, tmp_path: Path
) -> None:
    told = await every_kind(Stories(process.writers, tmp_path))
    blocked = pb.ListPhoneRequest(phone_number=PHONE, verdict=pb.RISK_VERDICT_BLOCK, operator="amina", reason="stolen")
    await process.operations.ListPhone(blocked)
    other = await process.create(phone_number="254722000111")

    document = await exported(environment, "--phone", "0712 345 678")
    kept = document["kept"]
    payments = {row["payment_id"]: row for row in kept["payment_transactions"]}
    assert payments.keys() == {str(payment.payment_id) for payment in told.values()}
    assert {row["phone_number"] for row in payments.values()} == {PHONE}
    for table in ABOUT_PAYMENT:
        if table not in (
            *("risk_decisions", "daraja_questions", "approvals", "callback_replays", "case_acts"),
            # Nobody is set to issue receipts here.
            "issued_receipts",
        ):
            assert kept[table], table
    pushes = [row["request"] for row in kept["daraja_exchanges"] if row["operation"] == "push"]
    assert pushes[0]["PartyA"] == PHONE
    bodies = [row["body"] for row in kept["callback_inbox"] if isinstance(row["body"], dict)]
    assert PHONE in json.dumps(bodies)
    assert [row["verdict"] for row in kept["risk_list"]] == ["BLOCK"]
    assert "phone_index_a" not in kept["payment_transactions"][0]
    assert str(other.payment_id) not in json.dumps(document)

    acts = await rows_of(database, "SELECT act_id::text, act, operator, reason, payments FROM privacy_acts")
    assert acts == [(document["act_id"], "EXPORT", "amina", "the passenger has asked for it", len(payments))]


async def test_where_no_number_is_known_a_booking_is_given_out(
    process: Process, environment: Mapping[str, str]
) -> None:
    payment = await process.create(booking_id="BK-7")
    await process.create(booking_id="BK-8")
    kept = (await exported(environment, "--booking", "BK-7"))["kept"]
    assert [row["payment_id"] for row in kept["payment_transactions"]] == [str(payment.payment_id)]
    assert (await exported(environment, "--phone", "0799999999"))["kept"] == {}
    code, _, errors = await command(environment, "privacy", "export", "--reason", "x")
    assert (code, errors) == (1, "Give one of --phone and --booking.\n")
    code, _, errors = await command(environment, "privacy", "export", "--phone", "12", "--reason", "x")
    assert (code, "12 " in errors) == (1, False)


async def test_a_number_is_erased_once_it_was_shown_what_would_go(
    process: Process, environment: Mapping[str, str], database: Database
) -> None:
    payment = await process.create()
    words = ("privacy", "erase", "--phone", "0712345678", "--reason", "the passenger has asked for it")
    code, shown, errors = await command(environment, *words, "--yes")
    assert (code, errors) == (1, "Nothing was erased.\n")
    assert f"Not yet: payment {payment.payment_id} is CREATED" in shown
    await withdraw(process.writers, "development", CancelRequest("cancel-1", payment.payment_id))
    code, shown, errors = await command(environment, *words)
    assert (code, errors) == (1, "Nobody can be asked here whether to do it: say so with --yes.\n")
    code, shown, errors = await command(environment, *words, "--dry-run")
    assert (code, errors) == (0, "")
    assert "- The number of 1 payments" in shown
    assert "What stays, and why:" in shown
    assert await count(database, "privacy_acts") == 0
    code, done, errors = await command(environment, *words, "--yes")
    assert (code, errors) == (0, "")
    assert re.search(r"^Erased from 1 payments; kept as act [0-9a-f-]{36}\.$", done, re.MULTILINE)
    assert await command(environment, *words, "--yes") == (0, "Nothing here names this number.\n", "")
    found = (await command(environment, "payments", "find", "--phone", "0712345678"))[1]
    assert str(payment.payment_id) not in found
    assert "712345678" not in shown + done


async def test_no_table_that_may_hold_anything_of_a_payer_is_forgotten(database: Database) -> None:
    """A new table has to be put into one of these lists."""
    of_nobody = {
        *("alembic_version", "event_log", "key_checks", "key_holders", "key_uses", "privacy_acts", "prompt_switch"),
        *("consumer_acts", "consumer_cursors", "receipts_due", "request_budgets", "risk_counters"),
        *("daraja_access_token", "daraja_initiators", "daraja_pull_spans", "daraja_pulls"),
    }
    tables = {name for (name,) in await rows_of(database, "SELECT relname FROM pg_stat_user_tables")}
    assert tables - of_nobody == {*ABOUT_PAYMENT, *ABOUT_PHONE}
