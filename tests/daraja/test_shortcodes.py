"""What is never sent: values that Daraja refuses, or takes and then shows no prompt for."""

from typing import Any

import pytest

from payment_service.daraja.shortcodes import (
    PRODUCTION_URL,
    SANDBOX_URL,
    PushRequest,
    Shortcode,
    ShortcodeKind,
    check_callback_url,
)

PAYBILL = Shortcode("600998", ShortcodeKind.PAYBILL, "passkey", amount_min=10, amount_max=1000)
GOOD: dict[str, Any] = {
    "shortcode": PAYBILL,
    "phone_number": "254110000001",
    "amount": 10,
    "account_reference": "ABCDEF123456",
    "callback_url": "https://pay.example.com/callbacks/stk/x/y",
    "description": "Thirteen 13ab",
}


@pytest.mark.parametrize(
    "change",
    [
        {"phone_number": "0712345678"},
        {"phone_number": "+254712345678"},
        {"phone_number": "254812345678"},
        {"phone_number": "2547123456789"},
        {"phone_number": "25471234567８"},
        {"amount": 9},
        {"amount": 1001},
        {"amount": 0},
        {"account_reference": ""},
        {"account_reference": "ABCDEF1234567"},
        {"account_reference": "A B"},
        {"account_reference": "A&B"},
        {"account_reference": "É"},
        {"description": "Fourteen14abcd"},
        {"description": "#1"},
    ],
)
def test_a_push_that_would_go_wrong_is_not_built(change: dict[str, Any]) -> None:
    PushRequest(**GOOD)
    with pytest.raises(ValueError, match=r"phone|amount|reference|description"):
        PushRequest(**(GOOD | change))


@pytest.mark.parametrize(
    "change",
    [
        {"number": "1234"},
        {"number": "12345x"},
        {"passkey": ""},
        {"passkey": "two\nlines"},
        {"till_number": "300584"},
        {"kind": ShortcodeKind.TILL},
        {"kind": ShortcodeKind.TILL, "till_number": "x"},
        {"amount_min": 0},
        {"amount_max": 250_001},
        {"amount_min": 500, "amount_max": 400},
    ],
)
def test_a_shortcode_that_cannot_be_right_is_refused_when_it_is_configured(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"number": "600998", "kind": ShortcodeKind.PAYBILL, "passkey": "key"}
    Shortcode(**good)
    with pytest.raises(ValueError, match=r"shortcode|till|passkey"):
        Shortcode(**(good | change))


@pytest.mark.parametrize(
    ("url", "daraja"),
    [
        ("https://pay.example.com/callbacks/stk/bcdf/0a1b", PRODUCTION_URL),
        ("https://pay.example.com:8443/callbacks/stk", PRODUCTION_URL),
        ("https://pay.example.com/callbacks/stk", SANDBOX_URL),
        ("http://127.0.0.1:8080/callbacks/stk", "http://127.0.0.1:8070"),
        ("http://localhost:8080", "http://localhost:8070"),
    ],
)
def test_a_callback_url_that_is_taken(url: str, daraja: str) -> None:
    check_callback_url(url, daraja)


@pytest.mark.parametrize(
    ("url", "daraja"),
    [
        ("http://pay.example.com/callbacks", PRODUCTION_URL),
        ("http://pay.example.com/callbacks", SANDBOX_URL),
        ("http://pay.example.com/callbacks", "https://daraja.example.com"),
        ("http://localhost:8080/callbacks", SANDBOX_URL),
        ("http://127.0.0.1/callbacks", SANDBOX_URL),
        ("https://Pay.example.com/callbacks", PRODUCTION_URL),
        ("https://pay.example.com/call backs", PRODUCTION_URL),
        ("https://pay.example.com/é", PRODUCTION_URL),
        ("https://abc.ngrok.io/callbacks", PRODUCTION_URL),
        ("ftp://pay.example.com/", PRODUCTION_URL),
        ("pay.example.com/callbacks", SANDBOX_URL),
        ("", "http://127.0.0.1:8070"),
        *(
            (f"https://pay.example.com/{word}/x", base)
            for word in ("mpesa", "m-pesa", "MPESA", "safaricom", "exe", "exec", "cmd", "sql", "query", "mysqlite")
            for base in (PRODUCTION_URL, SANDBOX_URL)
        ),
    ],
)
def test_a_callback_url_that_daraja_refuses_is_refused_by_us(url: str, daraja: str) -> None:
    with pytest.raises(ValueError, match="callback URL"):
        check_callback_url(url, daraja)
