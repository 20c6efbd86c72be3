"""Bodies of callbacks as Safaricom writes them, and with one defect each, for posting to the address of a push."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PAID = "The service request is processed successfully."


def success_body(push: Mapping[str, Any], receipt: str) -> bytes:
    """A perfect success for a push of the simulator's ledger."""
    items = [{"Name": "Amount", "Value": push["amount"]}, {"Name": "MpesaReceiptNumber", "Value": receipt}]
    result = {
        "MerchantRequestID": push["merchant_request_id"],
        "CheckoutRequestID": push["checkout_request_id"],
        "ResultCode": 0,
        "ResultDesc": PAID,
        "CallbackMetadata": {"Item": items},
    }
    return json.dumps({"Body": {"stkCallback": result}}).encode()


def with_one_defect(push: Mapping[str, Any], receipt: str) -> Mapping[str, bytes]:
    """True successes, each with a defect in a field that decides nothing, or told twice with one meaning."""
    good, said = success_body(push, receipt), f'"ResultDesc": "{PAID}"'.encode()
    name = f'{{"Name": "MpesaReceiptNumber", "Value": "{receipt}"}}'.encode()
    return {
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "NUL in the text": good.replace(said, b'"ResultDesc": "p\\u0000aid"'),
        "half a character in the text": good.replace(said, b'"ResultDesc": "p\\ud800aid"'),
        "a Latin-1 byte in the text": good.replace(said, b'"ResultDesc": "pay\xe9"'),
        "the text twice": good.replace(said, said + b', "ResultDesc": "paid"'),
        "the receipt twice": good.replace(name, name + b", " + name),
        "no number as balance": good.replace(name, name + b', {"Name": "Balance", "Value": NaN}'),
        "a NUL after the end": good + b"\0",
    }
