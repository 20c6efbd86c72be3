"""The headers that let a trace go on in the service: those of OpenTelemetry, where the caller has it installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

Headers = Callable[[], Mapping[str, str]]


def headers_of_the_current_trace() -> Headers:
    """A function that gives the headers for a call that is made now; none where OpenTelemetry is not installed."""
    try:
        propagate = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        return dict

    def headers() -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    return headers
