"""Settings come from flags, the environment and secret files; whatever is wrong is said in sentences, all at once."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from runtime.serving import Address
from runtime.settings import AddressSetting, ProgramSettings, SettingsUnusable, render_settings, settings_sentences


class Kiosk(ProgramSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="KIOSK_")

    address: AddressSetting = Field(default=Address("127.0.0.1", 1), description="HOST:PORT to sell on")
    seconds: float = Field(default=2.0, gt=0, description="seconds to wait")
    passkey: SecretStr = Field(description="what Daraja calls the passkey")
    spare_key: SecretStr | None = Field(default=None, description="a second one")
    store: str = Field(default="memory", description="where to store")


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "passkey"
    path.write_text("  hush-hush\n")
    return path


def problems() -> list[str]:
    with pytest.raises(SettingsUnusable) as refusal:
        Kiosk.load()
    assert str(refusal.value) == "\n".join(refusal.value.sentences)
    return refusal.value.sentences


def test_flags_win_over_the_environment_and_the_environment_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIOSK_PASSKEY", "hush")
    monkeypatch.setenv("KIOSK_ADDRESS", "[::1]:5")
    monkeypatch.setenv("KIOSK_SECONDS", "4")
    settings = Kiosk.load(seconds="5", store=None)
    assert (settings.address, settings.seconds, settings.store) == (Address("::1", 5), 5.0, "memory")
    with pytest.raises(ValidationError):
        settings.seconds = 6.0


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, secret_file: Path) -> None:
    monkeypatch.setenv("KIOSK_PASSKEY_FILE", str(secret_file))
    monkeypatch.setenv("KIOSK_SPARE_KEY_FILE", str(secret_file))
    settings = Kiosk.load()
    assert settings.passkey.get_secret_value() == "hush-hush"
    assert settings.spare_key is not None
    assert settings.spare_key.get_secret_value() == "hush-hush"


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, secret_file: Path) -> None:
    monkeypatch.setenv("KIOSK_PASSKEY_FILE", str(secret_file))
    monkeypatch.setenv("KIOSK_PASSKEY", "hush")
    [sentence] = problems()
    assert sentence == "KIOSK_PASSKEY and KIOSK_PASSKEY_FILE are both set: unset one of them."


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"x" * 70_000])
def test_a_secret_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("KIOSK_PASSKEY_FILE", str(path))
    [sentence] = problems()
    assert "KIOSK_PASSKEY_FILE" in sentence
    assert str(path) in sentence


def test_all_that_is_wrong_is_said_at_once_and_no_value_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIOSK_ADDRESS", "hush-address")
    monkeypatch.setenv("KIOSK_SECONDS", "hush-number")
    monkeypatch.setenv("KIOSK_SECOND", "1")
    monkeypatch.setenv("KIOSK_STORE_FILE", "/nowhere")
    sentences = problems()
    assert len(sentences) == 5
    text = "\n".join(sentences)
    assert "hush" not in text
    for expected in (
        "KIOSK_PASSKEY or KIOSK_PASSKEY_FILE is not set",
        "what Daraja calls the passkey",
        "expected HOST:PORT, such as 127.0.0.1:8080",
        "leave it out for 127.0.0.1:1",
        "did you mean KIOSK_SECONDS?",
        "KIOSK_STORE_FILE is not a setting",
    ):
        assert expected in text, expected


def test_a_wrong_flag_is_told_from_a_wrong_variable() -> None:
    with pytest.raises(SettingsUnusable, match="The flag for KIOSK_SECONDS"):
        Kiosk.load(seconds=-1, passkey="hush")


def test_a_validation_error_becomes_one_sentence_per_setting() -> None:
    with pytest.raises(ValidationError) as error:
        Kiosk(seconds=-1, passkey=SecretStr("hush"))
    [sentence] = settings_sentences(Kiosk, error.value)
    assert sentence.startswith("KIOSK_SECONDS has a value that cannot be used")


def test_shown_settings_hide_secrets_and_passwords() -> None:
    settings = Kiosk.load(passkey="hush", store="postgresql://kiosk:hunter2pass@db/kiosk")
    assert render_settings(settings).splitlines() == [
        "KIOSK_ADDRESS=127.0.0.1:1",
        "KIOSK_SECONDS=2.0",
        "KIOSK_PASSKEY=[set, not shown]",
        "KIOSK_SPARE_KEY=",
        "KIOSK_STORE=postgresql://kiosk:[masked]@db/kiosk",
    ]
    assert "hush" not in repr(settings)


class Counter(ProgramSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="SHOP_")

    store: str = Field(description="where to count")


class Shop(Counter):
    passkey: SecretStr = Field(description="what only the whole shop needs")


def test_a_part_of_a_programs_settings_can_be_read_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_STORE", "here")
    monkeypatch.setenv("SHOP_PASSKEY_FILE", "/nonexistent")
    assert Counter.load().store == "here"
    monkeypatch.setenv("SHOP_STOR", "misspelt")
    with pytest.raises(SettingsUnusable, match="SHOP_STOR is not a setting: did you mean SHOP_STORE"):
        Counter.load()
