"""Access tokens, as "Daraja: Authorization" describes them and as recorded traffic corrects it."""

from __future__ import annotations

import json

import pytest

from daraja_simulator.settings import App, parse_app
from tests.daraja_simulator.merchant import Merchant, merchant_of, new_phone
from tests.daraja_simulator.simulators import in_process


async def test_a_token_has_28_characters_and_a_lifetime_in_text(merchant: Merchant) -> None:
    status, body = await merchant.get_token()
    assert status == 200
    assert len(json.loads(body)["access_token"]) == 28
    assert json.loads(body)["expires_in"] == "3599"


async def test_a_new_token_kills_the_one_before(merchant: Merchant) -> None:
    first = await merchant.new_token()
    assert (await merchant.push(new_phone()))[0] == 200
    second = await merchant.new_token()
    merchant.token = first
    assert await merchant.push(new_phone()) == (404, {**invalid_token("404.001.03"), "requestId": ANY_TEXT})
    merchant.token = second
    assert (await merchant.push(new_phone()))[0] == 200


async def test_each_app_has_a_token_of_its_own_that_is_good_for_its_own_shortcodes() -> None:
    other = App("other-key", "other-secret", ("600998",))
    async with in_process(more_apps=(other,)) as (_, url), merchant_of(url) as merchant:
        first = await merchant.new_token()
        status, body = await merchant.get_token("other-key:other-secret")
        assert status == 200
        second = json.loads(body)["access_token"]
        for token, shortcode, expected in (
            (first, "174379", 200),
            (second, "174379", 404),
            (first, "600998", 404),
            (second, "600998", 200),
        ):
            merchant.token = token
            assert (await merchant.push(new_phone(), BusinessShortCode=shortcode))[0] == expected
        await merchant.new_token()
        merchant.token = second
        assert (await merchant.push(new_phone(), BusinessShortCode="600998"))[0] == 200, "another app's new token"
        assert (await merchant.get_token("other-key:wrong"))[0] == 400


def test_an_app_is_read_as_its_shortcodes_its_key_and_its_secret() -> None:
    assert parse_app("600998+600584=key:sec:ret") == App("key", "sec:ret", ("600998", "600584"))
    with pytest.raises(ValueError, match="NUMBER"):
        parse_app("key:secret")


async def test_wrong_secret_and_wrong_grant_have_their_codes(merchant: Merchant) -> None:
    status, body = await merchant.get_token("development-consumer-key:wrong")
    assert (status, json.loads(body)["errorCode"]) == (400, "400.008.01")
    status, body = await merchant.get_token(grant="password")
    assert (status, json.loads(body)["errorCode"]) == (400, "400.008.02")


async def test_a_call_without_a_token_is_told_about_its_header(merchant: Merchant) -> None:
    await merchant.new_token()
    url = f"{merchant.url}/mpesa/stkpush/v1/processrequest"
    async with merchant.session.post(url, json=merchant.fields(new_phone())) as answer:
        assert (answer.status, (await answer.json())["errorCode"]) == (404, "404.001.04")
    assert (await merchant.ledger())["totals"]["prompted"] == 0


async def test_expired_and_refused_tokens_prompt_nobody(merchant: Merchant) -> None:
    await merchant.new_token()
    await merchant.control("tokens/expire")
    assert (await merchant.push(new_phone()))[0] == 404
    await merchant.new_token()
    await merchant.control("tokens/refuse", {"error": "no_apiproduct_match", "count": 2})
    for _ in range(2):
        status, body = await merchant.push(new_phone())
        assert (status, body["errorCode"]) == (401, "401.002.01")
    assert (await merchant.push(new_phone()))[0] == 200
    assert (await merchant.ledger())["totals"]["prompted"] == 1


async def test_token_requests_can_be_made_to_fail(merchant: Merchant) -> None:
    await merchant.control("tokens/fail", {"error": "incapsula_403"})
    await merchant.control("tokens/fail", {"raw_answer": {"status": 200, "body": "{}"}})
    assert (await merchant.get_token())[0] == 403
    assert await merchant.get_token() == (200, b"{}")
    assert (await merchant.get_token())[0] == 200


async def test_with_quirks_a_bad_token_is_refused_in_every_recorded_form() -> None:
    async with in_process(quirks=True) as (world, url), merchant_of(url) as merchant:
        await merchant.new_token()
        merchant.token = "x" * 28
        codes = {(await merchant.push(new_phone()))[1]["errorCode"] for _ in range(60)}
        lifetimes = {json.loads((await merchant.get_token())[1])["expires_in"] for _ in range(60)}
        emptied = {len((await merchant.get_token("a:b"))[1]) == 0 for _ in range(40)}
    assert codes == {"404.001.03", "401.002.01", "400.003.01", "401.003.01"}
    assert lifetimes == {"3599", "3600", 3599, 3600}
    assert emptied == {True, False}
    assert world.hits["token.empty_400"] > 0


def invalid_token(code: str) -> dict[str, str]:
    return {"errorCode": code, "errorMessage": "Invalid Access Token"}


class _AnyText:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other)

    def __hash__(self) -> int:
        return 0


ANY_TEXT = _AnyText()
