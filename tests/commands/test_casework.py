"""`payment-service cases` and `payments` as operators type them: clients of a running service, without its keys."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2 as pb_payment

from development.certificates import BOOKING
from development.postgres import find_free_port
from payment_service.commands.account import account
from payment_service.domain.facts import WatchEnded
from tests.application.casework.casefiles import expired, late, open_cases
from tests.certificates import certificates_in, door_of
from tests.commands.started import command
from tests.databases import Database
from tests.rpc.processes import Process, running_process


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


async def test_from_a_phone_number_to_a_settled_case_in_three_commands(
    process: Process, environment: Mapping[str, str]
) -> None:
    payment = await late(process, 1, "RCPT000001")
    code, found, errors = await command(environment, "payments", "find", "--phone", "0712345678")
    assert (code, errors) == (0, "")
    assert f"Payment {payment.payment_id}, reference {payment.reference}, for booking BK-1 of development" in found
    assert (
        "KES 500 from 2547*****678; receipt RCPT000001, paid late; COMPLETED (PAID_LATE), booking action REVIEW"
        in found
    )
    (case_id,) = re.findall(r"^ +([0-9a-f-]{36})  LATE_PAYMENT, about money, open", found, re.MULTILINE)

    code, shown, errors = await command(environment, "cases", "show", case_id)
    assert (code, errors) == (0, "")
    assert "The money came after the hold. Accept it if the seat can still be given and no other attempt has" in shown
    (etag,) = re.findall(f"cases resolve {case_id} accept --etag ([0-9.]+) --reason …", shown)

    seen = ("--yes", "--etag", etag)
    words = ("cases", "resolve", case_id, "accept", "--reason", "has the message, seat is free", *seen)
    code, settled, errors = await command(environment, *words)
    assert (code, errors) == (0, "")
    assert f"Case {case_id}, LATE_PAYMENT, about money, settled: ACCEPT" in settled
    assert "booking action CONFIRM, certain" in settled

    code, _, errors = await command(environment, *words[:5], "another reason", *seen)
    assert (code, errors) == (1, f"The case has been settled already: ACCEPT, by {account()}.\n")
    _, listed, _ = await command(environment, "cases", "list")
    assert listed == "There is none.\n"
    for text in (found, shown, settled):
        assert "712345678" not in text


async def test_an_answer_is_had_as_json_and_a_case_is_taken(process: Process, environment: Mapping[str, str]) -> None:
    await late(process, 1, "RCPT000001")
    _, listed, _ = await command(environment, "cases", "list", "--kind", "late_payment", "--output", "json")
    (case,) = json.loads(listed)["cases"]
    assert (case["kind"], case["mpesa_receipt_number"]) == ("CASE_KIND_LATE_PAYMENT", "RCPT000001")
    take = ("cases", "take", case["case_id"], "--reason", "mine", "--operator", "amina", "--yes")
    code, _, errors = await command(environment, *take)
    assert (code, errors.startswith("--yes decides on what you have seen before: give its --etag")) == (1, True)
    code, taken, _ = await command(environment, *take, "--etag", case["etag"])
    assert (code, taken.splitlines()[0]) == (0, f"Case {case['case_id']} is amina's now.")
    stale = ("--reason", "seat is free", "--yes", "--etag", case["etag"])
    code, _, errors = await command(environment, "cases", "resolve", case["case_id"], "accept", *stale)
    assert code == 1
    assert errors == (
        "Since you have seen the case, this has changed: the case, which amina has now."
        " Look at it again, then decide.\n"
    )


async def test_what_was_taken_on_a_day_is_added_up(process: Process, environment: Mapping[str, str]) -> None:
    process.writers.clock.now = process.writers.clock.now.replace(hour=7, minute=0)
    payment = await late(process, 1, "RCPT000001")
    assert payment.completed_at is not None
    day = f"{payment.completed_at:%Y-%m-%d}"
    _, found, _ = await command(environment, "payments", "find", "--completed-on", day)
    assert found.splitlines()[-1] == "1 payments, KES 500 received; of these 0, KES 0, have gone back."


async def test_what_moves_money_is_not_done_where_nobody_can_be_asked(
    process: Process, environment: Mapping[str, str]
) -> None:
    payment = await expired(process, 1)
    process.writers.clock.move(49 * 3600)
    await process.tell(payment, WatchEnded())
    _, listed, _ = await command(environment, "cases", "list", "--output", "json")
    (case,) = json.loads(listed)["cases"]
    resolve = ("cases", "resolve", case["case_id"], "accept", "--reason", "has the message")
    code, _, errors = await command(environment, *resolve, "--receipt", "RCPT000009")
    assert (code, errors.splitlines(keepends=True)[-1]) == (
        1,
        "Nobody can be asked here whether to do it: say so with --yes.\n",
    )
    code, _, errors = await command(environment, *resolve, "--receipt", "RCPT000009", "--yes")
    assert (code, errors.startswith("--yes decides on what you have seen before")) == (1, True)
    seen = ("--yes", "--etag", case["etag"])
    code, _, errors = await command(environment, *resolve, *seen)
    assert (code, errors.startswith("mpesa_receipt_number: expected the M-Pesa receipt number")) == (1, True)
    code, _, errors = await command(environment, *resolve[:5], " ", *seen)
    assert (code, errors.startswith("reason: expected 1 to 200 characters")) == (1, True)
    code, _, _ = await command(environment, *resolve, "--receipt", "RCPT000009", *seen)
    assert code == 0


@pytest.mark.parametrize(("answer", "code", "action"), [("n", 1, "REVIEW"), ("y", 0, "CONFIRM")])
async def test_an_operator_at_a_terminal_is_asked_once(
    process: Process, environment: Mapping[str, str], answer: str, code: int, action: str
) -> None:
    await late(process, 1, "RCPT000001")
    (case_id,) = [str(case.case_id) for case in await open_cases(process)]
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    words = ("cases", "resolve", case_id, "accept", "--reason", "seat is free")
    ended, output, errors = await command(environment, *words, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert output.startswith(
        "Accept KES 500, receipt RCPT000001, for booking BK-1,"
        " which has COMPLETED (PAID_LATE), booking action REVIEW now? [y/N]: "
    )
    assert (ended, "Nothing was done." in errors) == (code, code == 1)
    found = await process.operations.FindPayments(pb.FindPaymentsRequest(booking_id="BK-1"))
    assert pb_payment.BookingAction.Name(found.payments[0].payment.booking_action) == f"BOOKING_ACTION_{action}"


async def test_what_cannot_be_asked_is_one_sentence(process: Process, environment: Mapping[str, str]) -> None:
    nowhere = f"127.0.0.1:{find_free_port()}"
    for words, sentence in (
        (("cases", "list", "--service", nowhere), f"The payment service at {nowhere} does not answer"),
        (("cases", "list", "--service", "here"), "The flag for PAYMENTS_GRPC_ADDRESS has a value that cannot be used"),
        (("cases", "list", "--kind", "late"), "--kind has to be one of CONTRADICTION, "),
        (("cases", "show", "7"), "case_id: expected the id of a case"),
        (("payments", "find"), "Give one of --phone, "),
        (("payments", "find", "--phone", "0712345678", "--booking", "BK-1"), "Give one of --phone, "),
        (("payments", "find", "--phone", "12"), "phone_number: expected a Kenyan mobile number"),
    ):
        code, output, errors = await command(environment, *words)
        assert (code, output, "Traceback" in errors) == (1, "", False), words
        assert errors.startswith(sentence), words


async def test_prompts_are_stopped_and_allowed_again(process: Process, environment: Mapping[str, str]) -> None:
    assert (await command(environment, "prompts", "show"))[1] == "New prompts are allowed.\n"
    code, _, errors = await command(environment, "prompts", "stop", "--reason", "wrong prices")
    assert (code, errors.splitlines(keepends=True)[-1]) == (
        1,
        "Nobody can be asked here whether to do it: say so with --yes.\n",
    )
    code, shown, _ = await command(
        environment, "prompts", "stop", "--reason", "wrong prices", "--operator", "amina", "--yes"
    )
    assert code == 0
    assert re.fullmatch(r"New prompts are stopped, since .* EAT, by amina: wrong prices\n", shown), shown
    assert (await command(environment, "prompts", "show"))[1] == shown
    _, allowed, _ = await command(environment, "prompts", "allow", "--reason", "mended", "--yes", "--output", "json")
    assert "stopped" not in json.loads(allowed)["prompt_switch"]


async def test_a_phone_is_blocked_by_command_and_its_number_is_shown_nowhere(
    process: Process, environment: Mapping[str, str]
) -> None:
    assert (await command(environment, "risk", "show"))[1].splitlines()[-1] == "Nothing is on the list."
    block = ("risk", "block", "0712345678", "--reason", "asked us to", "--operator", "amina", "--days", "7")
    code, blocked, errors = await command(environment, *block)
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"Phone [0-9a-f]{12} is blocked until .* EAT, since .* EAT, by amina: asked us to\n", blocked)
    shown = (await command(environment, "risk", "show"))[1]
    assert shown.splitlines()[-1] == blocked.strip()
    assert re.match(r"PHONE_BLOCKED +enforce +- +refused 0, in shadow 0 in the last day", shown)
    code, removed, _ = await command(environment, "risk", "remove", "+254 712 345 678", "--reason", "a mistake")
    assert (code, " is not on the list, since " in removed) == (0, True)
    history = (await command(environment, "risk", "show", "--phone", "0712345678"))[1].splitlines()[-2:]
    assert history == [removed.strip(), blocked.strip()]
    for text in (blocked, shown, removed):
        assert "712345678" not in text


async def test_an_operator_shows_a_certificate_and_nobody_else_is_answered(database: Database, tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path)
    async with running_process(database.application_url, tmp_path, door=door_of(certificates)) as process:
        where = {"PAYMENTS_GRPC_ADDRESS": str(process.server.address)}
        shown = where | certificates.operator_settings
        assert await command(shown, "cases", "list") == (0, "There is none.\n", "")
        booking = {
            "PAYMENTS_CLIENT_CERTIFICATE_FILE": str(certificates.certificate(BOOKING)),
            "PAYMENTS_CLIENT_KEY_FILE": str(certificates.key(BOOKING)),
        }
        for environment, sentence in (
            (shown | booking, "You may not use this method."),
            (where, "set PAYMENTS_CLIENT_CERTIFICATE_FILE, PAYMENTS_CLIENT_KEY_FILE, PAYMENTS_SERVICE_CA_FILE"),
            (where | {"PAYMENTS_PLAINTEXT": "true"}, "does not answer"),
            (shown | {"PAYMENTS_CLIENT_KEY_FILE": str(certificates.key(BOOKING))}, "it does not fit the certificate"),
        ):
            code, listed, errors = await command(environment, "cases", "list")
            assert (code, listed) == (1, "")
            assert sentence in errors
            assert "Traceback" not in errors
