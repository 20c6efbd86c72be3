"""Reading the JSON object that a call to Daraja carries, as leniently as Daraja does."""

from __future__ import annotations

import contextlib
import json
from typing import Any


def json_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object sent; None for anything else."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, dict):
            return value
    return None


def text_of(fields: dict[str, Any], name: str) -> str:
    """A field as text; numbers count as the digits they are written with."""
    value = fields.get(name)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
