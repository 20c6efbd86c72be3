"""Against Safaricom's production: secrets come from files, and what everybody knows or has is refused by name."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from daraja_simulator.initiator import certificate
from development.certificates import Certificates, make_certificates
from payment_service.config import InspectionSettings, OperatorSettings, OwnerSettings, PaymentSettings
from payment_service.credentials import load_credentials
from payment_service.daraja.shortcodes import PRODUCTION_URL, SANDBOX_NUMBER, SANDBOX_PASSKEY, SANDBOX_URL
from payment_service.door import load_door
from payment_service.security.keys import create_keys
from runtime.development_values import MARK
from runtime.key_rings import create_key_ring
from runtime.logs import configure_logs
from runtime.serving import StartRefused
from runtime.settings import SettingsUnusable, render_settings
from tests.plain_logs import log_plainly

Start = Callable[..., None]


def shortcodes(folder: Path, number: str, passkey: str) -> Path:
    path = folder / "shortcodes.json"
    path.write_text(json.dumps([{"number": number, "kind": "PAYBILL", "passkey": passkey}]))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """As far as `serve --check-config` goes, against production; what is changed wins."""
    create_keys(tmp_path / "keys.json")
    create_key_ring(tmp_path / "callback-keys.json")
    good: dict[str, object] = {
        "plaintext": True,
        "database_url": "postgresql://user:hush@127.0.0.1:5/payments",
        "keys_file": tmp_path / "keys.json",
        "callback_keys_file": tmp_path / "callback-keys.json",
        "shortcodes_file": shortcodes(tmp_path, "123456", "hush"),
        "daraja_base_url": PRODUCTION_URL,
        "daraja_consumer_key": "hush",
        "daraja_consumer_secret": "hush",
        "callback_base_url": "https://pay.example.org",
    }

    def check(**changed: object) -> None:
        settings = PaymentSettings.load(**good | changed)
        load_credentials(settings)
        load_door(settings)

    return check


def refusal(start: Start, **changed: object) -> str:
    with pytest.raises(StartRefused) as refused:
        start(**changed)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert "hush" not in sentence
    assert "PAYMENTS_DARAJA_BASE_URL is production's" in sentence
    return sentence


def test_what_is_ones_own_is_taken(start: Start) -> None:
    start()


@pytest.mark.parametrize(
    ("number", "passkey"),
    [("123456", SANDBOX_PASSKEY), ("174379", "hush"), ("123456", "development-passkey")],
)
def test_a_shortcode_that_everybody_has_is_refused(start: Start, tmp_path: Path, number: str, passkey: str) -> None:
    path = shortcodes(tmp_path, number, passkey)
    sentence = refusal(start)
    assert sentence.startswith(f"PAYMENTS_SHORTCODES_FILE names {path}, where shortcode {number}")
    assert "that Safaricom has given to you" in sentence
    assert passkey not in sentence
    start(daraja_base_url=SANDBOX_URL)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"daraja_consumer_key": "development-consumer-key"}, "PAYMENTS_DARAJA_CONSUMER_KEY_FILE"),
        ({"daraja_consumer_secret": "development-consumer-secret"}, "PAYMENTS_DARAJA_CONSUMER_SECRET_FILE"),
        ({"pull_nominated_number": SANDBOX_NUMBER}, "PAYMENTS_PULL_NOMINATED_NUMBER"),
    ],
)
def test_an_account_that_everybody_has_is_refused(start: Start, changed: dict[str, object], named: str) -> None:
    assert refusal(start, **changed).startswith(f"{named} ")
    start(daraja_base_url=SANDBOX_URL, **changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [("keys_file", "PAYMENTS_KEYS_FILE"), ("callback_keys_file", "PAYMENTS_CALLBACK_KEYS_FILE")],
)
def test_keys_that_were_made_for_development_are_refused(
    start: Start, tmp_path: Path, changed: str, named: str
) -> None:
    create_keys(tmp_path / "development-keys_file", MARK)
    create_key_ring(tmp_path / "development-callback_keys_file", MARK)
    path = tmp_path / f"development-{changed}"
    sentence = refusal(start, **{changed: path})
    assert sentence.startswith(f"{named} names {path}, whose keys were made for development")
    start(daraja_base_url=SANDBOX_URL, **{changed: path})


def shown(made: Certificates, **changed: object) -> dict[str, object]:
    usual = {
        "tls_certificate_file": made.certificate("service"),
        "tls_key_file": made.key("service"),
        "tls_client_ca_file": made.certificate("authority"),
        "callers_file": made.callers,
    }
    return {"plaintext": False, **usual, **changed}


def test_the_authority_and_the_callers_of_a_development_machine_are_refused(start: Start, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    sentence = refusal(start, **shown(made))
    assert sentence.startswith(f"PAYMENTS_TLS_CLIENT_CA_FILE names {made.certificate('authority')}, an authority")
    # An authority of another name; whose it is does not matter here.
    sentence = refusal(start, **shown(made, tls_client_ca_file=made.certificate("booking")))
    assert sentence.startswith(f"PAYMENTS_CALLERS_FILE names {made.callers}, which lists spiffe://development.local/")
    start(daraja_base_url=SANDBOX_URL, **shown(made))


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a machine where the service runs against production."""
    monkeypatch.setenv("PAYMENTS_DARAJA_BASE_URL", PRODUCTION_URL)
    monkeypatch.setenv("PAYMENTS_KEYS_FILE", str(tmp_path / "keys.json"))
    return monkeypatch


def settings_refusal(load: Callable[[], object]) -> str:
    with pytest.raises(SettingsUnusable) as refused:
        load()
    (sentence,) = refused.value.sentences
    assert "hush" not in sentence
    return sentence


def test_secrets_in_the_environment_are_refused_in_production(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production.setenv("PAYMENTS_DATABASE_URL", "postgresql://user:hush@127.0.0.1:5/payments")
    sentence = settings_refusal(InspectionSettings.load)
    assert sentence.startswith("PAYMENTS_DATABASE_URL holds a secret in the environment")
    assert "set PAYMENTS_DATABASE_URL_FILE to its path" in sentence
    (tmp_path / "url").write_text("postgresql://user:hush@127.0.0.1:5/payments")
    production.delenv("PAYMENTS_DATABASE_URL")
    production.setenv("PAYMENTS_DATABASE_URL_FILE", str(tmp_path / "url"))
    assert InspectionSettings.load().database_url.get_secret_value().startswith("postgresql://")


def test_every_secret_of_the_service_is_held_to_it(production: pytest.MonkeyPatch) -> None:
    names = [name for name, field in PaymentSettings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert {"database_url", "daraja_consumer_key", "daraja_consumer_secret", "initiator_password"} <= set(names)
    for name in names:
        production.setenv(f"PAYMENTS_{name.upper()}", "hush")
    with pytest.raises(SettingsUnusable) as refused:
        PaymentSettings.load()
    for name in names:
        told = [one for one in refused.value.sentences if one.startswith(f"PAYMENTS_{name.upper()} holds a secret")]
        assert len(told) == 1, name


def test_the_owners_password_and_libpqs_are_held_to_it_as_well(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production.setenv("PAYMENTS_OWNER_DATABASE_URL", "postgresql://owner:hush@127.0.0.1:5/payments")
    assert settings_refusal(OwnerSettings.load).startswith("PAYMENTS_OWNER_DATABASE_URL holds a secret")
    production.delenv("PAYMENTS_OWNER_DATABASE_URL")
    (tmp_path / "url").write_text("postgresql://user@127.0.0.1:5/payments")
    production.setenv("PAYMENTS_DATABASE_URL_FILE", str(tmp_path / "url"))
    production.setenv("PGPASSWORD", "hush")
    sentence = settings_refusal(InspectionSettings.load)
    assert sentence.startswith("PGPASSWORD holds a secret in the environment")
    assert "PAYMENTS_DATABASE_URL_FILE" in sentence
    # A command that reads no secret has none to lose.
    OperatorSettings.load()


def test_elsewhere_the_environment_may_hold_them(production: pytest.MonkeyPatch) -> None:
    production.setenv("PAYMENTS_DATABASE_URL", "postgresql://user:hush@127.0.0.1:5/payments")
    production.setenv("PAYMENTS_DARAJA_BASE_URL", SANDBOX_URL)
    assert InspectionSettings.load().database_url.get_secret_value().startswith("postgresql://")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as the service writes it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("payment-service", "DEBUG", stream)
    yield stream
    log_plainly()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_nothing_that_shows_settings_or_credentials_shows_a_secret(tmp_path: Path, log: io.StringIO) -> None:
    create_keys(tmp_path / "keys.json")
    create_key_ring(tmp_path / "callback-keys.json")
    (tmp_path / "certificate.pem").write_text(certificate())
    hidden = dict.fromkeys(("daraja_consumer_key", "daraja_consumer_secret", "initiator_password"), "hidden-value")
    settings = PaymentSettings.load(
        plaintext=True,
        database_url="postgresql://user:hidden-password@127.0.0.1:5/payments",
        keys_file=tmp_path / "keys.json",
        callback_keys_file=tmp_path / "callback-keys.json",
        shortcodes_file=shortcodes(tmp_path, "123456", "hidden-passkey"),
        callback_base_url="https://pay.example.org",
        initiator_name="operator",
        initiator_certificate_file=tmp_path / "certificate.pem",
        **hidden,
    )
    credentials = load_credentials(settings)
    structlog.get_logger().info("shown", settings=settings, credentials=credentials, fields=settings.model_dump())
    try:
        raise RuntimeError(f"{settings} {credentials}")
    except RuntimeError:
        structlog.get_logger().exception("crashed")
    seen = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump()), repr(credentials)]
    text = "\n".join([*seen, render_settings(settings), log.getvalue()])
    assert text.count("123456") >= 3, "the shortcode is shown, where secrets would be"
    keys = {key.hex() for ring in credentials.keys.rings.values() for key in ring.keys.values()}
    keys |= {repr(bytes.fromhex(key)) for key in keys}
    keys |= {key.hex() for key in credentials.callback_keys.keys.values()}
    assert [secret for secret in ("hidden-", *keys) if secret in text] == []
