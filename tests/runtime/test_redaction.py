"""Nothing that must stay out of the logs gets in, whatever it is wrapped in; what lines are found by stays readable."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runtime.logs import configure_logs
from runtime.redaction import MASK, redact_line, redact_text
from tests.patience import PATIENCE_SECONDS
from tests.plain_logs import log_plainly

PAYMENT_ID = "0199f0e2-7c1a-7bb3-8f2a-1b2c3d4e5f60"
TOKEN = "7f" + "0123456789abcdef" * 2
PHONES = (
    "254712345678",
    "+254712345678",
    "0712345678",
    "0112345678",
    "254110345678",
    "712345678",
    "+254 712 345 678",
    "0712-345-678",
    "0712 345 678",
    "(+254)712345678",
    "2540712345678",
    "%2B254712345678",
    "tel:254712345678x",
    "phone=0712345678&x=1",
    '{"PhoneNumber":254712345678}',
)


@pytest.mark.parametrize("phone", PHONES)
def test_a_phone_number_is_masked_in_every_form(phone: str) -> None:
    shown = redact_text(f"the payer {phone} paid")
    assert MASK in shown
    for digits in ("345678", "345 678", "345-678"):
        assert digits not in shown


@pytest.mark.parametrize(
    "text",
    [
        "token=hunter2pass and more",
        '{"access_token": "hunter2pass"}',
        f"POST /callbacks/stk/23456789bcdf/{TOKEN} HTTP/1.1",
        "token=[masked]hunter2pass",
    ],
)
def test_what_is_masked_twice_reads_as_masked_once(text: str) -> None:
    once = redact_text(text)
    assert "hunter2pass" not in once
    assert TOKEN not in once
    assert redact_text(once) == once


def test_what_was_blanked_before_it_was_kept_reads_as_masked() -> None:
    assert redact_text('{"Password": "[blanked]", "Amount": 1}') == '{"Password": "[masked]", "Amount": 1}'


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("pushed as ws_CO_231120261215300712345678", "712345678"),
        ("ws_co_23112026 in lower case", "23112026"),
        (f"POST /callbacks/stk/23456789bcdf/{TOKEN} HTTP/1.1", TOKEN),
        (f"https://pay.example/callbacks/stk/23456789bcdf/{TOKEN}?x=1", TOKEN),
        (f"%2Fcallbacks%2Fstk%2F23456789bcdf%2F{TOKEN}", TOKEN),
        (f"the token {TOKEN} alone", TOKEN),
        ("Authorization: Bearer c2VjcmV0LXRva2Vu.abc", "c2VjcmV0"),
        ("authorization: basic a2V5OnNlY3JldA==", "a2V5OnNlY3JldA"),
        ("postgresql://app:hunter2pass@127.0.0.1:5432/payments", "hunter2pass"),
        ("postgresql+psycopg://app:p@ss/w@127.0.0.1/payments", "p@ss"),
        ("host=db password=hunter2pass user=app", "hunter2pass"),
        ('{"access_token": "c9SQxWWhmdVRlyh0zh8gZDTkubVF"}', "c9SQxWWh"),
        ("Password=MTc0Mzc5YmZiMjc5&Timestamp=1", "MTc0Mzc5"),
    ],
)
def test_a_secret_is_masked_wherever_it_stands(text: str, secret: str) -> None:
    shown = redact_text(text)
    assert secret not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "0199f0e2-7c1a-7bb3-8f2a-254712345678",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "2026-11-23T07:48:00.071234Z",
        "KES 1500 for booking BK-2026-000123",
        "NLJ7RT61SV",
        "127.0.0.1:50051",
        "after 0.712345678 s",
    ],
)
def test_what_lines_are_found_by_stays_readable(text: str) -> None:
    assert redact_text(text) == text


def test_nested_values_keys_integers_bytes_and_objects_are_masked() -> None:
    class Payer:
        def __repr__(self) -> str:
            return "Payer(0712345678)"

    line = redact_line(
        {
            "phone_number": "x1",
            "callback_token": b"x2",
            "Authorization": ["x3"],
            "items": [{"Name": "PhoneNumber", "Value": 254712345678}, {"0712345678": 1}],
            "body": b'{"p":"0712345678"}',
            "who": Payer(),
            "error": ValueError("no such phone: 0712345678"),
            "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": "0712345678"}}}}}}},
            "amount": 1500,
            "version": 3,
            "paid": True,
        }
    )
    text = json.dumps(line)
    assert "0712345678" not in text
    assert "254712345678" not in text
    assert not any(secret in text for secret in ("x1", "x2", "x3"))
    assert (line["amount"], line["version"], line["paid"]) == (1500, 3, True)


def test_an_object_that_cannot_be_shown_costs_no_line() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert redact_line({"x": Broken()}) == {"x": "<unprintable Broken>"}


def test_long_values_are_cut_without_cutting_a_phone_number_open() -> None:
    line = redact_line({"x": "a" * 3_994 + "0712345678" + "b" * 1_000_000, "y": 10**400})
    assert "071234" not in json.dumps(line)
    assert len(json.dumps(line)) < 5_000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(PHONES[:4]),
)
def test_any_value_becomes_a_line_of_strict_json_without_the_phone_number(value: object, phone: str) -> None:
    text = json.dumps(redact_line({"value": value, "wrapped": [f"- {phone} -", {"x": value}]}), allow_nan=False)
    assert phone not in text


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A captured log; the process's own configuration of logs comes back afterwards."""
    root = logging.getLogger()
    before, level, hooks = root.handlers[:], root.level, sys.excepthook
    captured = io.StringIO()
    configure_logs("test-program", stream=captured)
    yield captured
    root.handlers[:] = before
    root.setLevel(level)
    sys.excepthook = hooks
    logging.captureWarnings(False)
    log_plainly()


def test_our_lines_and_those_of_libraries_have_one_shape(stream: io.StringIO) -> None:
    structlog.get_logger().info("payment_changed", payment_id=PAYMENT_ID, phone="0712345678")
    logging.getLogger("aiohttp.server").warning("bad request from %s", "0712345678")
    ours, theirs = lines_of(stream)
    assert ours["event"] == "payment_changed"
    assert ours["payment_id"] == PAYMENT_ID
    assert ours["phone"] == MASK
    assert theirs["event"] == f"bad request from {MASK}"
    assert theirs["logger"] == "aiohttp.server"
    for line in (ours, theirs):
        assert line["program"] == "test-program"
        assert {"time", "level"} <= line.keys()


def test_an_exception_is_told_without_its_secrets(stream: io.StringIO) -> None:
    try:
        raise ValueError("cannot pay for 0712345678 through postgresql://app:hunter2pass@db/x")
    except ValueError:
        structlog.get_logger().exception("push_failed")
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    for line in lines_of(stream):
        assert "ValueError: cannot pay for" in str(line["exception"])
        assert "0712345678" not in str(line)
        assert "hunter2pass" not in str(line)


def test_no_input_can_forge_a_line_or_reach_a_terminal(stream: io.StringIO) -> None:
    hostile = 'x"}\r\n{"event":"forged"}\n\x1b[2J\x1b]0;owned\x07\u2028\u202e\x85'
    # Half a surrogate pair goes to our own logger only: pytest-xdist cannot report it when it captures the other.
    structlog.get_logger().info(hostile + "\udc80", value=hostile + "\udc80", **{hostile: 1})
    logging.getLogger("grpc").error("%s", hostile)
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert all(" " <= character <= "~" for character in text.replace("\n", ""))
    assert all(line["event"] != "forged" for line in lines_of(stream))


def run_program(tmp_path: Path, lines: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    program = tmp_path / "program.py"
    program.write_text(f"from runtime.logs import configure_logs\nconfigure_logs('test-program')\n{lines}\n")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert "0712345678" not in done.stdout + done.stderr
    return done, [json.loads(line)["event"] for line in done.stdout.splitlines()]


def test_a_library_line_that_cannot_be_formatted_is_reported_without_its_arguments(tmp_path: Path) -> None:
    _, events = run_program(tmp_path, "import logging; logging.error('%d rows for %s', '0712345678', 'x')")
    assert events == ["log line unprintable"]


def test_a_crash_is_a_line_of_the_log_too(tmp_path: Path) -> None:
    done, events = run_program(
        tmp_path,
        "import threading\n"
        "def fail(): raise ValueError('thread for 0712345678')\n"
        "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\n"
        "raise RuntimeError('0712345678 again')",
    )
    assert events == ["thread crashed", "program crashed"]
    assert done.returncode == 1


HOSTILE = (
    "token",
    "token ",
    "token=",
    "passwd_",
    "bearer ",
    "bearer",
    "a://b:",
    "a://",
    "/callbacks/stk/",
    "254 ",
    "0",
    "0.",
    "f",
)


@pytest.mark.parametrize("repeated", HOSTILE)
def test_a_hostile_text_is_redacted_in_proportion_to_its_length(repeated: str) -> None:
    # Where each beginning is read to the end of the text, ten of these take longer than a test may.
    for length in range(16_000, 16_010):
        redact_text((repeated * length)[:length])
