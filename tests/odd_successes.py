"""True successes with something odd about them: by name, and by seeded mutation. Each carries a true token.

What Safaricom has sent, and what a proxy or a change of its software could make of it tomorrow. None may be lost.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

AMOUNT = 500
RECEIPT = "TKN4ABC9XY"


def success(receipt: str = RECEIPT, **fields: Any) -> dict[str, Any]:
    """The body of an ordinary success, as Safaricom writes it."""
    items = [
        {"Name": "Amount", "Value": AMOUNT},
        {"Name": "MpesaReceiptNumber", "Value": receipt},
        {"Name": "Balance"},
        {"Name": "TransactionDate", "Value": 20261123101512},
        {"Name": "PhoneNumber", "Value": 254700000001},
    ]
    inner: dict[str, Any] = {
        "MerchantRequestID": "3d0e-4aa1-bf3c-0011223344551234567",
        "CheckoutRequestID": "ws_CO_23112026101500123700000001",
        "ResultCode": 0,
        "ResultDesc": "ok",
        "CallbackMetadata": {"Item": items},
    }
    return {"Body": {"stkCallback": inner | fields}}


def odd_successes(receipt: str = RECEIPT) -> Mapping[str, bytes]:
    """The odd bodies that have a name."""
    whole = success(receipt)
    inner = whole["Body"]["stkCallback"]
    items = inner["CallbackMetadata"]["Item"]
    good, quoted = json.dumps(whole).encode(), f'"{receipt}"'.encode()

    def twice(name: bytes, value: bytes) -> bytes:
        again = b'{"Name": "%s", "Value": %s}, {"Name": "%s"' % (name, value, name)
        return good.replace(b'{"Name": "%s"' % name, again)

    return {
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "NUL in ResultDesc": good.replace(b'"ok"', b'"o\\u0000k"'),
        "a raw NUL in ResultDesc": good.replace(b'"ok"', b'"o\0k"'),
        "a lone surrogate in ResultDesc": good.replace(b'"ok"', b'"o\\ud800k"'),
        "a Latin-1 byte in ResultDesc": good.replace(b'"ok"', b'"o\xe9k"'),
        "ResultDesc twice": good.replace(b'"ResultDesc": "ok"', b'"ResultDesc": "ok", "ResultDesc": "fine"'),
        "Amount twice": twice(b"Amount", b"500.00"),
        "TransactionDate twice": twice(b"TransactionDate", b"20261123101513"),
        "the receipt twice": twice(b"MpesaReceiptNumber", quoted),
        "NaN in Balance": good.replace(b'{"Name": "Balance"}', b'{"Name": "Balance", "Value": NaN}'),
        "MerchantRequestID a number": json.dumps(success(receipt, MerchantRequestID=12345)).encode(),
        "MerchantRequestID too long": json.dumps(success(receipt, MerchantRequestID="x" * 65)).encode(),
        "a line break after CheckoutRequestID": good.replace(b"00000001", b"00000001\\n", 1),
        "CallbackMetadata a list": json.dumps(success(receipt, CallbackMetadata=items)).encode(),
        "Item a text": json.dumps(success(receipt, CallbackMetadata={"Item": json.dumps(items)})).encode(),
        "items as keys": json.dumps(
            success(receipt, CallbackMetadata={"Amount": AMOUNT, "MpesaReceiptNumber": receipt})
        ).encode(),
        "no Body": json.dumps(whole["Body"]).encode(),
        "no wrapper at all": json.dumps(inner).encode(),
        "other case": good.replace(b"Body", b"body")
        .replace(b"stkCallback", b"STKCALLBACK")
        .replace(b"ResultC", b"resultC"),
        "JSON in JSON": json.dumps({"Body": json.dumps(whole["Body"])}).encode(),
        "a NUL after the end": good + b"\0",
        "nine levels in ResultDesc": good.replace(b'"ok"', b"[" * 9 + b"]" * 9),
    }


def mutated_successes(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Successes with one or two things changed at random; (receipt, body). The same seed gives the same bodies."""
    chance = random.Random(seed)
    for number in range(count):
        receipt = f"TM{number:04}{seed % 100:02}XY"
        body = json.dumps(success(receipt)).encode()
        for _ in range(chance.choice((1, 1, 2))):
            body = chance.choice(_MUTATIONS)(chance, body)
        yield receipt, body


def _byte_changed(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :]


def _byte_dropped(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + body[place + 1 :]


def _cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(1, len(body))]


def _value_replaced(chance: random.Random, body: bytes) -> bytes:
    old = chance.choice((b'"ok"', b"20261123101512", b"254700000001", b'"3d0e-4aa1-bf3c-0011223344551234567"'))
    return body.replace(
        old, chance.choice((b"null", b"NaN", b"[]", b"{}", b'""', b"-1", b"1e999", b'"\\ud800"', b"true"))
    )


def _key_repeated(chance: random.Random, body: bytes) -> bytes:
    key = chance.choice((b'"ResultDesc"', b'"MerchantRequestID"', b'"CallbackMetadata"', b'"Item"', b'"Value"'))
    return body.replace(key + b": ", key + b": null, " + key + b": ", 1)


def _wrapped(chance: random.Random, body: bytes) -> bytes:
    return chance.choice((b"[%s]", b'{"data": %s}', b"\xef\xbb\xbf%s", b"%s\0\0", b" \r\n%s\r\n")) % body


_MUTATIONS = (_byte_changed, _byte_changed, _byte_dropped, _cut, _value_replaced, _key_repeated, _wrapped)
