"""Asking for single transactions, against a simulated M-Pesa that posts its results later."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog

from daraja_simulator.initiator import certificate
from daraja_simulator.settings import DEVELOPMENT_INITIATOR_NAME
from payment_service.application.calling.access_token import AccessToken, Token, get_token
from payment_service.application.settling import ask_status as module
from payment_service.application.settling.ask_status import TRIES_MAX
from payment_service.daraja.initiator import CertificateUnusable, load_initiator
from payment_service.domain.facts import DeadlinePassed, PromptAccepted, SendClaimed
from payment_service.security.sealing import EXCHANGE_REQUEST
from tests.application.settling.bookkeeping import PAYBILL, TILL
from tests.application.settling.enquiry import PHONE, Enquiry, enquiry
from tests.databases import Database
from tests.rows import count, rows_of


@pytest.fixture
async def enquiring(database: Database, tmp_path: Path) -> AsyncIterator[Enquiry]:
    async with enquiry(database, tmp_path, PAYBILL) as running:
        yield running


async def test_a_pending_receipt_is_asked_for_and_filled_in(enquiring: Enquiry) -> None:
    payment, receipt = await enquiring.pending()
    await enquiring.ask_and_hear()
    assert await enquiring.books.row(payment) == ("COMPLETED", receipt, "CONFIRM")
    assert await enquiring.books.cases() == []
    assert not await enquiring.ask(), "there is nothing more to ask for"
    (exchange_id, sealed), *_ = await rows_of(
        enquiring.books.database, "SELECT exchange_id, request FROM daraja_exchanges WHERE operation = 'status'"
    )
    kept = enquiring.tools.safaricom.sealer.open(EXCHANGE_REQUEST, exchange_id.bytes, sealed)
    assert b'"SecurityCredential": "[blanked]"' in kept
    assert b'"OriginalConversationID"' in kept


async def test_a_transaction_that_is_reversed_takes_its_payment_away(enquiring: Enquiry) -> None:
    payment, receipt = await enquiring.pending()
    await enquiring.books.tell_simulator("takebacks", phone=PHONE)
    await enquiring.ask_and_hear()
    assert await enquiring.books.row(payment) == ("REFUNDED", None, "RELEASE")
    assert await enquiring.books.cases() == [(payment.reference, "TAKEN_BACK", True, receipt)]
    assert not await enquiring.ask(), "there is nothing more to ask for"


async def test_it_is_not_asked_for_while_the_callback_may_still_bring_it(enquiring: Enquiry) -> None:
    await enquiring.pending()
    enquiring.books.clock.move(-15)
    assert not await enquiring.ask()


async def test_money_at_a_till_that_may_be_a_payments_is_proven_by_its_receipt(
    database: Database, tmp_path: Path
) -> None:
    async with enquiry(database, tmp_path, TILL) as enquiring:
        books = enquiring.books
        payment, prompt = await books.payment(phone_number=PHONE)
        claim = UUID(int=1)
        await books.tell(payment, SendClaimed(claim))
        answer = await books.push(prompt)
        await books.tell(payment, PromptAccepted(claim, answer.merchant_request_id, answer.checkout_request_id))
        books.clock.move(150)
        await books.tell(payment, DeadlinePassed())
        assert not await enquiring.ask()
        await books.reader.read()
        assert await books.cases() == [(payment.reference, "UNCLAIMED_MONEY", True, books.paid[0])]
        await enquiring.ask_and_hear()
        assert (await books.row(payment))[:2] == ("COMPLETED", books.paid[0])


@pytest.mark.parametrize(
    "lie",
    [
        {"parameters": {"OriginatorConversationID": "another-conversation"}},
        {"without": ["OriginatorConversationID"]},
        {"without": ["Amount"]},
        {"quirks": ["status.only_receipt"]},
        {"parameters": {"TransactionStatus": "Declined"}},
        {"result_code": 2032},
        {"result": "queue_timeout"},
        {"raw_result": {"body": "nonsense"}},
    ],
)
async def test_a_result_that_proves_nothing_changes_nothing(enquiring: Enquiry, lie: dict[str, Any]) -> None:
    payment, _ = await enquiring.pending()
    await enquiring.script(**lie)
    await enquiring.ask_and_hear()
    assert await enquiring.books.row(payment) == ("COMPLETED", None, "WAIT")
    assert await enquiring.books.cases() == []
    assert not await enquiring.ask(), "not at once"
    enquiring.books.clock.move(61)
    await enquiring.ask_and_hear()
    assert (await enquiring.books.row(payment))[2] == "CONFIRM"


async def test_another_amount_is_a_money_case(enquiring: Enquiry) -> None:
    payment, receipt = await enquiring.pending()
    await enquiring.script(parameters={"Amount": 499})
    await enquiring.ask_and_hear()
    assert await enquiring.books.row(payment) == ("COMPLETED", None, "REVIEW")
    assert await enquiring.books.cases() == [(payment.reference, "WRONG_AMOUNT", True, receipt)]


async def test_a_result_that_comes_twice_counts_once(enquiring: Enquiry) -> None:
    payment, receipt = await enquiring.pending()
    await enquiring.script(result="twice")
    await enquiring.ask_and_hear()
    await enquiring.heard(2)
    assert await enquiring.books.row(payment) == ("COMPLETED", receipt, "CONFIRM")
    assert await count(enquiring.books.database, "callback_inbox") == 1


async def test_one_question_is_out_at_a_time_and_a_lost_result_is_waited_for(enquiring: Enquiry) -> None:
    await enquiring.pending()
    await enquiring.pending()
    await enquiring.script(result="never")
    assert await enquiring.ask()
    assert not await enquiring.ask(), "its result may still come"
    enquiring.books.clock.move(31)
    await enquiring.ask_and_hear()
    assert await enquiring.asked() == 2


async def test_processes_that_ask_at_once_ask_once(enquiring: Enquiry) -> None:
    await enquiring.pending()
    await get_token(enquiring.tools.safaricom.tokens[PAYBILL.number])
    assert sum(await asyncio.gather(*(enquiring.ask() for _ in range(4)))) == 1
    assert await enquiring.asked() == 1


async def test_a_transaction_whose_result_has_just_come_to_another_process_is_not_asked_for_again(
    enquiring: Enquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enquiring.pending()
    with monkeypatch.context() as patched:

        async def token_after_another_process(tokens: AccessToken) -> Token:
            patched.undo()
            await enquiring.ask_and_hear()
            return await get_token(tokens)

        patched.setattr(module, "get_token", token_after_another_process)
        assert not await enquiring.ask()
    assert await enquiring.asked() == 1


async def test_a_wrong_password_is_tried_once_and_never_until_it_locks(enquiring: Enquiry, tmp_path: Path) -> None:
    payment, receipt = await enquiring.pending()
    await enquiring.pending()
    wrong = load_initiator(DEVELOPMENT_INITIATOR_NAME, "expired", tmp_path / "certificate.pem")
    refused = replace(
        enquiring, tools=replace(enquiring.tools, operator=replace(enquiring.tools.operator, initiator=wrong))
    )
    await refused.ask_and_hear()
    with structlog.testing.capture_logs() as lines:
        assert not await refused.ask()
    assert [(line["log_level"], line["code"]) for line in lines] == [("error", "2001")]
    enquiring.books.clock.move(20 * 3600)
    assert not await refused.ask()
    assert await enquiring.asked() == 1
    # What was corrected is another initiator, and need not wait.
    await enquiring.ask_and_hear()
    assert await enquiring.asked() == 2
    assert receipt in {(await enquiring.books.row(payment))[1], *enquiring.books.paid}
    assert not enquiring.books.world.initiator.locked


async def test_a_transaction_that_is_never_found_is_asked_for_a_few_times(enquiring: Enquiry) -> None:
    payment, _ = await enquiring.pending()
    # Without its receipt's timer, which would put it before a person sooner.
    for _ in range(TRIES_MAX + 3):
        await enquiring.script(result_code=2033)
        if await enquiring.ask():
            await enquiring.heard(await enquiring.asked())
        enquiring.books.clock.move(3600)
    assert await enquiring.asked() == TRIES_MAX
    assert (await enquiring.books.row(payment))[1] is None


async def test_a_refused_token_is_renewed_and_asked_with_again(enquiring: Enquiry) -> None:
    payment, receipt = await enquiring.pending()
    first = await get_token(enquiring.tools.safaricom.tokens[PAYBILL.number])
    await enquiring.script(error="invalid_access_token_400_003")
    assert await enquiring.ask()
    assert (await get_token(enquiring.tools.safaricom.tokens[PAYBILL.number])).generation == first.generation + 1
    enquiring.books.clock.move(61)
    await enquiring.ask_and_hear()
    assert (await enquiring.books.row(payment))[1] == receipt


@pytest.mark.parametrize("place", ["ask_transaction_status", "keep_exchange"])
async def test_a_process_killed_at_any_point_only_costs_time(
    enquiring: Enquiry, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    payment, receipt = await enquiring.pending()

    def killed(*_: object, **__: object) -> None:
        raise KilledHere

    with monkeypatch.context() as patched:
        patched.setattr(module, place, killed)
        with pytest.raises(KilledHere):
            await enquiring.ask()
    enquiring.books.clock.move(61)
    if place == "keep_exchange":
        # The question had gone out, so its result comes all the same.
        await enquiring.heard(1)
    else:
        await enquiring.ask_and_hear()
    assert await enquiring.books.row(payment) == ("COMPLETED", receipt, "CONFIRM")
    assert not await enquiring.ask()


class KilledHere(Exception):
    """The process ends here."""


async def test_what_is_no_certificate_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    with pytest.raises(CertificateUnusable, match=r"certificate\.pem"):
        load_initiator("operator", "password", path)
    path.write_text("-----BEGIN NOTHING-----")
    with pytest.raises(CertificateUnusable, match=r"certificate\.pem"):
        load_initiator("operator", "password", path)
    path.write_text(certificate())
    with pytest.raises(CertificateUnusable, match="too long"):
        load_initiator("operator", "p" * 246, path)
    assert "password" not in repr(load_initiator("operator", "password", path))
