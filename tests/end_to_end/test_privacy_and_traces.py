"""What may not be seen, and what must be: no personal data in any log or table, and one trace through all of it."""

from __future__ import annotations

import json
import re
import secrets
from urllib.parse import urlsplit

from tests.end_to_end.town import (
    Town,
    a_phone,
    a_phone_that,
    a_request,
    events_to_the_end,
    initiate,
    lived,
    until,
)
from tests.parts import SHORTCODES
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.answers import refused

TABLES = "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"


async def dump(town: Town) -> str:
    """Every column of every row of every table as text, so binary columns in hex."""
    rows: list[str] = []
    for (table,) in await rows_of(town.database, TABLES):
        rows += [row[0] for row in await rows_of(town.database, f'SELECT t::text FROM "{table}" AS t')]
    return "\n".join(rows).lower()


def forms_of(phone: str) -> list[str]:
    """The ways a number is written, of which one would be enough to know it."""
    nine = phone[3:]
    spaced = f"{nine[:3]} {nine[3:6]} {nine[6:]}"
    return [nine, spaced, spaced.replace(" ", "-")]


async def secrets_of_all_payments(town: Town) -> list[str]:
    """What must stand nowhere: of every push that the simulator has had so far."""
    pushes = [push for push in await town.simulator.pushes() if push["phone"]]
    phones = {push["phone"] for push in pushes}
    checkouts = {push["checkout_request_id"] for push in pushes}
    tokens = {push["callback_url"].rpartition("/")[2] for push in pushes}
    assert len(phones) >= 8
    return [form for phone in phones for form in forms_of(phone)] + sorted(checkouts | tokens)


async def test_no_phone_number_checkout_id_or_token_stands_in_a_log_or_a_table(town: Town) -> None:
    for digits in ("001", "032", "201", "902", "903", "911", "912"):
        await lived(town, town.patient, a_phone_that(digits))
    phone = a_phone()
    await lived(town, town.patient, phone, metadata={"seat": "4B"}, account_reference="TRIP42")
    local = "0" + a_phone()[3:]
    await lived(town, town.patient, local, description="Seat 4B")
    await refused(initiate(town.patient, phone + "9"))
    push = await town.simulator.first_push(phone)
    for body in (
        json.dumps({"phone": phone, "CheckoutRequestID": push["checkout_request_id"]}).encode(),
        json.dumps({"Body": {"stkCallback": {"ResultCode": "0", "CheckoutRequestID": "ws_CO_" + phone}}}).encode(),
        json.dumps({"Body": {"stkCallback": {"ResultCode": 1, "MerchantRequestID": phone}}}).encode(),
    ):
        assert await town.post_callback(push, body) == 200
    await town.edge.post(push["callback_url"] + "0", content=phone.encode())
    hidden = await secrets_of_all_payments(town)
    tables = await dump(town)
    assert push["receipt"].lower() in tables, "the dump holds what it should"
    assert push["account_reference"].lower() in tables
    hex_of = {text: text.encode().hex() for text in hidden}
    in_tables = [text for text in hidden if text.lower() in tables or hex_of[text] in tables]
    assert in_tables == []
    logs = [(process.name, process.log.read_text().lower()) for process in town.processes]
    assert "payment changed" in logs[0][1]
    in_logs = [(name, text) for name, log in logs for text in hidden if text.lower() in log]
    assert in_logs == []


async def test_no_secret_of_the_installation_stands_in_a_log_or_a_table(town: Town) -> None:
    await lived(town, town.patient, a_phone())
    tables = await dump(town)
    logs = "\n".join(process.log.read_text().lower() for process in town.processes)
    settings = town.site.core_environment()
    hidden = {settings["PAYMENTS_DARAJA_CONSUMER_SECRET"], str(urlsplit(town.database.application_url).password)}
    hidden |= {entry["passkey"] for entry in SHORTCODES}
    for name in ("keys.json", "callback-keys.json"):
        hidden |= set(re.findall("[0-9a-f]{64}", (town.site.folder / name).read_text()))
    assert len(hidden) == 8
    assert [one for one in hidden if one.lower() in logs] == []
    assert [one for one in hidden if one.lower() in tables or one.encode().hex() in tables] == []


async def test_every_line_of_a_log_is_one_json_object(town: Town) -> None:
    await lived(town, town.patient, a_phone())
    for process in town.processes:
        lines = process.log.read_text().splitlines()
        assert lines
        for line in lines:
            entry = json.loads(line)
            assert {"time", "level", "program", "event"} <= entry.keys(), line


async def test_the_callers_trace_runs_from_the_call_to_the_stored_callback(town: Town) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    started = await town.patient.InitiatePayment(
        a_request(a_phone()),
        timeout=PATIENCE_SECONDS,
        metadata=(("traceparent", f"00-{trace_id}-{span_id}-01"),),
    )
    await events_to_the_end(town.patient, started)
    core = town.processes[0]

    async def lines() -> list[dict[str, str]] | None:
        found = [json.loads(line) for line in core.log.read_text().splitlines() if trace_id in line]
        return found if any(line["event"] == "callback stored" for line in found) else None

    traced = await until(lines, "the line that says that the callback is stored")
    (created,) = [line["state"] for line in traced if line["event"] == "payment created"]
    steps = [line["to_state"] for line in traced if line["event"] == "payment changed"]
    # A busy process leaves the send to whoever comes to it first, which may be the other one.
    assert [created, *steps] == ["SENDING", "PROMPTED", "COMPLETED"] or (created, steps[-1]) == ("CREATED", "COMPLETED")
    assert {line["trace_id"] for line in traced} == {trace_id}
    assert all(re.fullmatch("[0-9a-f]{16}", line["span_id"]) for line in traced if "span_id" in line)
    stored = traced[-1]
    assert (stored["event"], stored["reference"]) == ("callback stored", started.payment.reference)
