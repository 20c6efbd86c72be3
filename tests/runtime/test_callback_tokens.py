"""Only a token made with one of the keys, for this kind and reference, is accepted; no input ever raises."""

import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.callback_tokens import (
    REFERENCE_ALPHABET,
    TOKEN_PATTERN,
    CallbackKeys,
    callback_path,
    callback_token,
    load_callback_keys,
    token_accepted,
)
from runtime.key_rings import KeyRingUnusable, create_key_ring

OLD = CallbackKeys(current_id="01", keys={"01": bytes(32)})
KEYS = CallbackKeys(current_id="02", keys={"01": bytes(32), "02": bytes([7] * 32)})
REFERENCE = "23456789bcdf"
references = st.text(alphabet="23456789bcdfghjknprtvwxz", min_size=12, max_size=12)
anything = st.none() | st.integers() | st.binary() | st.text() | st.lists(st.text())


@given(references)
def test_a_token_is_accepted_for_its_reference_and_needs_no_escaping(reference: str) -> None:
    token = callback_token(KEYS, "stk", reference)
    assert TOKEN_PATTERN.fullmatch(token)
    assert token_accepted(KEYS, "stk", reference, token)
    assert callback_path(KEYS, "stk", reference) == f"/callbacks/stk/{reference}/{token}"


@given(references, st.integers(0, 33), st.sampled_from("0123456789abcdefABCDEF_g\0é"))
def test_a_token_that_differs_anywhere_is_refused(reference: str, position: int, character: str) -> None:
    token = callback_token(KEYS, "stk", reference)
    other = token[:position] + character + token[position + 1 :]
    assert token_accepted(KEYS, "stk", reference, other) is (other == token)


@given(references, references)
def test_a_token_is_worth_nothing_for_another_reference_or_kind(one: str, other: str) -> None:
    token = callback_token(KEYS, "stk", one)
    assert token_accepted(KEYS, "stk", other, token) is (one == other)
    assert not token_accepted(KEYS, "result", one, token)


@given(anything, anything, anything)
def test_input_of_any_shape_but_the_right_one_is_refused_and_never_raises(
    kind: object, reference: object, token: object
) -> None:
    # Hypothesis also draws what it finds written in these tests, the right kind and reference among them.
    good = callback_token(KEYS, "stk", REFERENCE)
    assert not token_accepted(KEYS, kind, REFERENCE, token)
    assert token_accepted(KEYS, "stk", reference, good) is (reference == REFERENCE)
    assert token_accepted(KEYS, kind, reference, good) is (kind == "stk" and reference == REFERENCE)


def test_tokens_of_an_old_key_stay_good_until_it_is_removed() -> None:
    token = callback_token(OLD, "stk", REFERENCE)
    assert token_accepted(KEYS, "stk", REFERENCE, token)
    assert not token_accepted(CallbackKeys("02", {"02": bytes([7] * 32)}), "stk", REFERENCE, token)
    assert callback_token(KEYS, "stk", REFERENCE) != token


def test_a_token_does_not_change_between_versions_of_this_program() -> None:
    # URLs given to Daraja before an upgrade are called after it.
    assert callback_token(OLD, "stk", REFERENCE) == "01" + "6b3c3ffa266c87283dafedb228bf0b0d"


@pytest.mark.parametrize(("kind", "reference"), [("stk", "short"), ("STK", REFERENCE), ("stk", "mpesa6789bcd")])
def test_no_token_is_made_for_what_could_not_be_accepted(kind: str, reference: str) -> None:
    with pytest.raises(ValueError):
        callback_token(KEYS, kind, reference)


def test_no_reference_can_hold_a_word_that_safaricom_refuses() -> None:
    for word in ("mpesa", "m-pesa", "safaricom", "query", "sql", "exec", "exe", "cmd"):
        assert not set(word) <= set(REFERENCE_ALPHABET)


def test_keys_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(create_key_ring(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["keys.json"]
    keys = load_callback_keys(path)
    assert token_accepted(keys, "stk", REFERENCE, callback_token(keys, "stk", REFERENCE))
    assert keys.keys[keys.current_id].hex() not in repr(keys)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"current": "01", "keys": {}}',
        '{"current": "01", "keys": {"01": "short"}}',
        '{"current": "01", "keys": {"01": 5}}',
        json.dumps({"current": "1", "keys": {"1": "00" * 32}}),
        json.dumps({"current": "01", "keys": {"01": "00" * 32, "zz": "00" * 32}}),
    ],
)
def test_a_file_of_keys_that_is_damaged_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeyRingUnusable, match=r"keys\.json"):
        load_callback_keys(path)


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRingUnusable, match=r"none\.json"):
        load_callback_keys(tmp_path / "none.json")
