"""A status token opens one payment until it ends, by any key of the service, and nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from payment_service.domain.errors import StatusTokenRefused
from payment_service.security.status_tokens import STATUS_TOKEN_LIFE, check_status_token, status_token
from runtime.key_rings import KeyRing

NOW = datetime(2026, 11, 28, 18, tzinfo=UTC)
PAYMENT, OTHER = UUID(int=1), UUID(int=2)
KEYS = KeyRing("1", {"1": b"1" * 32})


def opens(keys: KeyRing, payment_id: UUID, token: str, now: datetime = NOW) -> bool:
    try:
        check_status_token(keys, payment_id, token, now)
    except StatusTokenRefused:
        return False
    return True


def test_a_token_opens_its_own_payment_until_its_end() -> None:
    token = status_token(KEYS, PAYMENT, NOW)
    last_moment = NOW + STATUS_TOKEN_LIFE - timedelta(seconds=1)
    assert opens(KEYS, PAYMENT, token)
    assert opens(KEYS, PAYMENT, token, last_moment)
    assert not opens(KEYS, PAYMENT, token, NOW + STATUS_TOKEN_LIFE)
    assert not opens(KEYS, OTHER, token)


def test_a_token_that_was_altered_in_one_character_opens_nothing() -> None:
    token = status_token(KEYS, PAYMENT, NOW)
    for place, character in enumerate(token):
        for other in {"0", "f", "A", " ", "é"} - {character}:
            assert not opens(KEYS, PAYMENT, token[:place] + other + token[place + 1 :])


def test_a_token_in_another_spelling_opens_nothing() -> None:
    token = status_token(KEYS, PAYMENT, NOW)
    for other in (token[:-1], token + "0", token.upper(), "", token + "\n", f" {token}"):
        assert not opens(KEYS, PAYMENT, other)


def test_a_token_of_an_older_key_opens_as_long_as_that_key_is_held() -> None:
    token = status_token(KEYS, PAYMENT, NOW)
    assert opens(KeyRing("2", {"1": b"1" * 32, "2": b"2" * 32}), PAYMENT, token)
    assert not opens(KeyRing("2", {"2": b"2" * 32}), PAYMENT, token)
