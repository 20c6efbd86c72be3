"""The wrappings of Daraja's answers, whichever address gave them: JSON or not, errors, and the edge before it.

What an error means depends on what was asked, and is decided beside that: in `messages` for a push and a token, in
`query_answers` for a query.
"""

import re
from collections.abc import Mapping
from datetime import timedelta

from payment_service.daraja.push_errors import EDGE_PAGE, EDGE_STATUSES, RATE_LIMIT_WAIT
from payment_service.daraja.strict_json import NotStrictJson, read_strict_json

RETRY_AFTER_MAX = timedelta(minutes=5)
"""A longer Retry-After is cut: nothing that is sent later than this is still wanted."""

_SECONDS = re.compile(r"[0-9]{1,6}")


def lenient_json(body: bytes) -> object:
    """The value in the body, None where there is none to read."""
    try:
        return read_strict_json(body)
    except NotStrictJson:
        return None


def error_in(value: dict[str, object]) -> tuple[str, str] | None:
    """Code and text, from Daraja's own envelope or from that of the Apigee gateway before it."""
    fault = value.get("fault")
    if isinstance(fault, dict):
        detail = fault.get("detail")
        code, text = (detail.get("errorcode") if isinstance(detail, dict) else None), fault.get("faultstring")
    else:
        code, text = value.get("errorCode"), value.get("errorMessage")
    if not isinstance(code, str):
        return None
    return code, text if isinstance(text, str) else ""


def is_edge_page(status: int, body: bytes) -> bool:
    """Whether the Imperva edge answered, and the request went no further. Ask of bodies that are no JSON."""
    return status in EDGE_STATUSES and EDGE_PAGE.search(body.decode("utf-8", "replace")) is not None


def retry_after(headers: Mapping[str, str]) -> timedelta:
    """How long a rate limit asks us to wait. `headers` is asked with lower-case names."""
    given = headers.get("retry-after", "")
    return min(timedelta(seconds=int(given)), RETRY_AFTER_MAX) if _SECONDS.fullmatch(given) else RATE_LIMIT_WAIT
