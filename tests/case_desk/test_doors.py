"""Who is let in, and which forms are taken: by hand, as an attacker would send them."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, TCPConnector
from mpesa_payments.v1 import operations_service_pb2 as pb
from structlog.testing import capture_logs

from case_desk.desk import KEPT_MAX, Kept
from case_desk.forms import FORM_LASTS_S, FormRefused, Forms
from case_desk.persons import NotLoggedIn, Strangers
from runtime.rarely import QUIET_S
from tests.application.approving.twosome import refund
from tests.application.casework.casefiles import late
from tests.case_desk.desks import SECRET, Served
from tests.databases import Database
from tests.rows import count, rows_of

TAKE = {"reason": "mine"}
UNREADABLE = {"phone_number": "12", "mpesa_receipt_number": "?", "reference": "!"}


async def test_nothing_is_served_to_somebody_whom_nobody_names(desk: Served) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    strangers: list[dict[str, str]] = [
        {},
        {"X-Forwarded-User": "amina"},
        {"X-Desk-Secret": SECRET},
        {"X-Forwarded-User": "amina", "X-Desk-Secret": SECRET[:-1]},
        {"X-Forwarded-User": "", "X-Desk-Secret": SECRET},
        {"X-Forwarded-User": "amina, brian", "X-Desk-Secret": SECRET},
        {"X-Forwarded-User": "a" * 65, "X-Desk-Secret": SECRET},
    ]
    async with ClientSession() as session:
        for headers in strangers:
            for path in ("/", f"/cases/{case.case_id}", "/approvals", "/desk.css", "/nothing"):
                async with session.get(f"{desk.url}{path}", headers=headers) as response:
                    text = await response.text()
                    assert (response.status, "You are not logged in" in text) == (403, True), (headers, path)
                    assert "BK-1" not in text
            async with session.post(f"{desk.url}/search", headers=headers, data={"value": "BK-1"}) as response:
                assert response.status == 403


def test_strangers_do_not_flood_the_log() -> None:
    now = 0.0
    strangers = Strangers(lambda: now)
    with capture_logs() as logs:
        for _ in range(1_000):
            strangers.refused(NotLoggedIn("no certificate"))
        strangers.refused(NotLoggedIn("no secret"))
        now = QUIET_S
        strangers.refused(NotLoggedIn("no certificate"))
    told = [(line["why"], line["refused"]) for line in logs]
    assert told == [("no certificate", 1), ("no secret", 1), ("no certificate", 1_000)]


async def test_the_proxys_word_from_another_address_is_not_believed(desk: Served) -> None:
    elsewhere = TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        ClientSession(connector=elsewhere) as session,
        session.get(desk.url, headers=desk.headers("amina")) as response,
    ):
        assert (response.status, "You are not logged in" in await response.text()) == (403, True)


async def test_two_names_are_no_name(desk: Served) -> None:
    headers = [*desk.headers("amina").items(), ("X-Forwarded-User", "brian")]
    async with ClientSession() as session, session.get(desk.url, headers=headers) as response:
        assert response.status == 403


async def test_a_form_that_was_not_shown_to_its_sender_does_nothing(desk: Served, database: Database) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    page, take = f"/cases/{case.case_id}", f"/cases/{case.case_id}/take"
    amina, brian = await desk.form(page, take), await desk.form(page, take, "brian")
    settle = await desk.form(page, f"{page}/resolve")
    for what, fields, headers in (
        ("no token", TAKE | {"etag": case.etag}, {}),
        ("a made up token", TAKE | amina | {"token": "1.a.b"}, {}),
        ("another person's token", TAKE | brian, {}),
        ("another form's token", TAKE | amina | {"token": settle["token"]}, {}),
        ("another site", TAKE | amina, {"Origin": "https://evil.example.org"}),
        ("an origin that is hidden", TAKE | amina, {"Origin": "null"}),
    ):
        status, text = await desk.post(take, fields, **headers)
        assert (status, "Nothing was done" in text) == (403, True), what
    assert await count(database, "case_acts") == 0
    assert (await desk.post(take, TAKE | amina))[0] == 303
    assert await rows_of(database, "SELECT operator FROM case_acts") == [("amina",)]


async def test_what_is_no_text_is_refused_and_is_no_fault_of_the_desk(desk: Served) -> None:
    fields = await desk.form("/", "/search")
    form = "application/x-www-form-urlencoded"
    headers = desk.headers("amina") | {"Origin": desk.url, "Content-Type": form}
    with capture_logs() as logs:
        for path in ("/cases/%ff", "/payments/%ed%a0%80", "/approvals/%00", "/?page=%ff"):
            assert (await desk.get(path))[0] in (400, 404), path
        async with ClientSession() as session:
            token = quote(fields["token"])
            for kind, body in (
                (form, f"token={token}&known=booking_id&value=%ff".encode()),
                (form, b"token=\xff&value=1"),
                (f"{form}; charset=nobody-knows", b"token=1"),
                ("multipart/form-data", b"token=1"),
                ("application/json", b"{}"),
            ):
                sent = headers | {"Content-Type": kind}
                async with session.post(f"{desk.url}/search", data=body, headers=sent) as response:
                    assert response.status in (400, 403), (kind, body)
        reader, writer = await asyncio.open_connection(*desk.address.split(":"))
        writer.write(b"GET / HTTP/1.1\r\nHost: desk\r\nX-Desk-Secret: \xff\r\nX-Forwarded-User: \xff\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"403"
        writer.close()
    assert [line for line in logs if line["event"] == "alarm"] == []


async def test_a_form_sent_twice_is_done_once_and_answered_alike(desk: Served, database: Database) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    page, take = f"/cases/{case.case_id}", f"/cases/{case.case_id}/take"
    fields = TAKE | await desk.form(page, take)
    answers = await asyncio.gather(*(desk.post(take, fields) for _ in range(3)))
    answers.append(await desk.post(take, fields))
    assert [status for status, _ in answers] == [303] * 4
    assert await count(database, "case_acts") == 1


async def test_a_refused_form_is_put_right_and_sent_again(desk: Served, database: Database) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    page, take = f"/cases/{case.case_id}", f"/cases/{case.case_id}/take"
    fields = await desk.form(page, take)
    assert (await desk.post(take, fields | {"reason": ""}))[0] == 400
    assert (await desk.post(take, fields | TAKE))[0] == 303
    assert await rows_of(database, "SELECT operator FROM case_acts") == [("amina",)]


@pytest.mark.parametrize("name", ["\u212aamau", "\u00a0kamau", "kamau\u2003", "kama\u0131"])
async def test_what_only_looks_like_a_name_names_nobody(desk: Served, name: str) -> None:
    status, text = await desk.get("/", name)
    assert (status, "You are not logged in" in text) == (403, True)


async def test_a_form_does_one_thing_at_a_time_and_keeps_what_was_done() -> None:
    forms, under_way, let_go, most = Forms(), 0, asyncio.Event(), 0

    async def act() -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await let_go.wait()
        under_way -= 1
        return f"/{most}"

    sent = [asyncio.create_task(forms.once("id", {"way": way}, act)) for way in ("a", "b", "a", "b")]
    await asyncio.sleep(0)
    let_go.set()
    assert await asyncio.gather(*sent) == ["/1"] * 4


async def test_a_case_that_has_changed_is_refused_with_what_has_changed(desk: Served, database: Database) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    page, action = f"/cases/{case.case_id}", f"/cases/{case.case_id}/resolve"
    seen = await desk.form(page, action)
    await desk.two.first.TakeCase(
        pb.TakeCaseRequest(case_id=case.case_id, etag=case.etag, operator="brian", reason="mine")
    )
    decided = {"resolution": "ACCEPT", "reason": "the seat is free", "sure": "yes"}
    status, text = await desk.post(action, decided | seen)
    assert status == 409
    assert "this has changed: the case, which brian has now. Look at it again, then decide." in text
    assert 'value="the seat is free"' in text
    assert await rows_of(database, "SELECT operator FROM case_acts") == [("brian",)]
    assert (await desk.post(action, decided | await desk.form(page, action)))[0] == 303


@pytest.mark.parametrize("way", ["RETURN", "ACCEPT", "DISMISS"])
async def test_what_a_case_is_settled_by_is_asked_once_more(desk: Served, database: Database, way: str) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    page, action = f"/cases/{case.case_id}", f"/cases/{case.case_id}/resolve"
    fields = await desk.form(page, action) | {"resolution": way, "reason": "no seat"}
    status, _ = await desk.post(action, fields)
    assert (status, await desk.two.waiting(), await count(database, "case_acts")) == (303, [], 0)


async def test_markup_in_what_others_wrote_is_text(desk: Served) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    await desk.two.first.TakeCase(
        pb.TakeCaseRequest(case_id=case.case_id, etag=case.etag, operator="amina", reason="<b>mine</b>")
    )
    _, text = await desk.get(f"/cases/{case.case_id}")
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "<b>" not in text


async def test_the_asker_is_refused_whatever_form_they_send(desk: Served, database: Database) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    action = f"/cases/{case.case_id}/resolve"
    fields = await desk.form(f"/cases/{case.case_id}", action)
    status, _ = await desk.post(action, fields | {"resolution": "RETURN", "reason": "no seat", "sure": "yes"})
    assert status == 303
    (waits,) = await desk.two.waiting()
    page, decide = f"/approvals/{waits.approval_id}", f"/approvals/{waits.approval_id}/decide"
    for person in ("amina", "AMINA"):
        fields = await desk.form(page, decide, person)
        forged = fields | {"decision": "APPROVE", "reason": "fine by me", "sure": "yes"}
        status, text = await desk.post(decide, forged, person)
        assert (status, "desk:amina has asked for this, and you are desk:amina" in text) == (409, True)
    assert await count(database, "refunds") == 0
    fields = await desk.form(page, decide)
    assert (await desk.post(decide, fields | {"decision": "WITHDRAW", "reason": "wrong booking"}))[0] == 303
    assert await desk.two.waiting() == []


async def test_what_a_command_has_asked_for_is_not_offered_at_the_desk(desk: Served) -> None:
    await desk.two.completed()
    await desk.two.first.RefundBooking(refund(operator="amina"))
    (waits,) = await desk.two.waiting()
    for person in ("amina", "brian"):
        status, text = await desk.get(f"/approvals/{waits.approval_id}", person)
        assert (status, "it is decided by a command" in text) == (200, True)
        assert "<form" not in text
        assert "You have asked for this" not in text


async def test_a_request_that_does_not_fit_is_told_why(desk: Served) -> None:
    status, text = await desk.get("/search")
    assert (status, "takes another kind of request" in text) == (405, True)
    status, text = await desk.post("/search", {"value": "x" * 20_000})
    assert (status, "That is too long" in text) == (413, True)


def test_what_one_person_sends_does_not_drive_out_what_others_have_sent() -> None:
    kept: Kept[int] = Kept()
    first = kept.keep("amina", 1)
    for number in range(KEPT_MAX + 1):
        last = kept.keep("brian", number)
    assert (kept.of("amina", first), kept.of("brian", last)) == (1, KEPT_MAX)


@pytest.mark.parametrize(("known", "value"), UNREADABLE.items())
async def test_what_cannot_be_looked_for_is_said_by_field(desk: Served, known: str, value: str) -> None:
    fields = await desk.form("/", "/search")
    status, text = await desk.post("/search", fields | {"known": known, "value": value})
    assert (status, f"<li>{known}: expected" in text) == (400, True)


async def test_a_search_is_found_again_by_whoever_made_it_and_by_nobody_else(desk: Served) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    await late(desk.two.process, 2, "RCPT000002")
    fields = await desk.form("/", "/search")
    async with ClientSession() as session:
        data = fields | {"known": "phone_number", "value": "0712345678"}
        headers = desk.headers("amina") | {"Origin": desk.url}
        async with session.post(f"{desk.url}/search", data=data, headers=headers) as response:
            assert (response.status, "BK-1" in await response.text()) == (200, True)
            path = response.url.path
            policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'")
    assert (await desk.get(path))[0] == 200
    assert (await desk.get(path, "brian"))[0] == 404


@pytest.mark.parametrize("path", ["/nothing", "/cases/01890a5d-ac96-774b-bcce-b302099a8057", "/payments/ABCDEFGH2345"])
async def test_what_is_not_there_is_a_page_that_says_so(desk: Served, path: str) -> None:
    status, text = await desk.get(path)
    assert (status, "<h1>" in text) == (404, True)


def test_a_form_gets_too_old() -> None:
    now = 100.0
    forms = Forms(now=lambda: now)
    token = forms.token("amina", "/x")
    assert forms.check(token, "amina", "/x") == token.split(".")[1]
    now += FORM_LASTS_S + 1
    with pytest.raises(FormRefused):
        forms.check(token, "amina", "/x")
