"""The page of alarms, made from the program's own list: `python -m scripts.alarms_page --write|--check PAGE`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import callback_gateway.alarms
import case_desk.alarms
import payment_service.alarms
from runtime.alarms import Alarm

INTRODUCTION = """# Alarms

<!-- Made by `make alarms` from alarms.py of payment_service, callback_gateway and case_desk. -->

An alarm is something that a person has to know. Each has a stable name. Raising it writes a log line of level `error`
with the event `alarm` and the fields `alarm`, `meaning` and `what_to_do`, and adds 1 to the counter `alarms.raised`
(`alarms_raised_total{alarm="…"}` on the Prometheus page). An alarm that lasts also shows as 1 in the gauge
`alarms.lasting` until it is over, and ends with the log line `alarm is over`.

`PAYMENTS_METRICS_ADDRESS`, `GATEWAY_METRICS_ADDRESS` and `DESK_METRICS_ADDRESS` say where the Prometheus page is
served. Spans and counters go to an OpenTelemetry collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Without any of
these only the log tells.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            INTRODUCTION,
            *_section("The payment service", payment_service.alarms.ALARMS),
            *_section("The callback gateway", callback_gateway.alarms.ALARMS),
            *_section("The case desk", case_desk.alarms.ALARMS),
        ]
    )


def _section(title: str, alarms: Sequence[Alarm]) -> list[str]:
    rows = [f"| `{one.name}` | {one.meaning} | {one.what_to_do} |" for one in alarms]
    return [f"## {title}", "", "| alarm | what happened | what to do |", "|---|---|---|", *rows, ""]


def main(words: Sequence[str]) -> int:
    """Command line; 1 where the page is not what the lists say."""
    verb, path = words[0], Path(words[1])
    if verb == "--write":
        path.write_text(page(), encoding="utf-8")
        return 0
    if path.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write(f"{path} is not what the lists of alarms say: run make alarms.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
