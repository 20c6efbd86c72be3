"""What cannot work is refused when the service starts, in one sentence that names the settings."""

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from callback_gateway.config import GatewaySettings
from payment_service.config import OperatorSettings, OwnerSettings, PaymentSettings
from payment_service.receipt_settings import load_logo
from payment_service.security.keys import KeysUnusable, create_keys, load_keys
from payment_service.shortcodes_file import load_shortcodes
from runtime.serving import StartRefused
from runtime.settings import SettingsUnusable, render_settings
from tests.patience import PATIENCE_SECONDS

GOOD: dict[str, object] = {
    "plaintext": True,
    "database_url": "postgresql://user:hush@127.0.0.1:5/payments",
    "keys_file": "keys.json",
    "callback_keys_file": "callback-keys.json",
    "shortcodes_file": "shortcodes.json",
    "daraja_consumer_key": "key",
    "daraja_consumer_secret": "secret",
    "callback_base_url": "https://pay.example.org",
}


def refusal(**changed: object) -> str:
    with pytest.raises(SettingsUnusable) as refused:
        PaymentSettings.load(**GOOD | changed)
    (sentence,) = refused.value.sentences
    assert "\n" not in sentence
    assert "hush" not in sentence
    return sentence


def test_money_that_is_to_go_back_by_itself_needs_somebody_to_send_it_and_an_amount() -> None:
    assert "PAYMENTS_B2C_SHORTCODE" in refusal(b2c_shortcode="till 5")
    assert "PAYMENTS_AUTOMATIC_REFUND_MAX_KES" in refusal(automatic_refund_of_duplicates=True)
    initiator = {"initiator_name": "o", "initiator_password": "hush", "initiator_certificate_file": "c.pem"}
    settings = PaymentSettings.load(**GOOD, automatic_refund_max_kes=1_000, **initiator)
    assert settings.automatic_refund_max_kes == 1_000


ISSUER: dict[str, object] = {
    "receipt_issuer_name": "Lakeside Coaches Ltd",
    "receipt_issuer_address": "P.O. Box 12-00100, Nairobi",
    "receipt_issuer_kra_pin": "P051234567X",
    "receipt_issuer_contact": "tickets@coaches.example",
    "receipt_base_url": "https://pay.example.org/",
}


def test_who_issues_receipts_is_told_as_a_whole_or_not_at_all() -> None:
    assert PaymentSettings.load(**GOOD).issuer is None
    settings = PaymentSettings.load(**GOOD, **ISSUER)
    assert settings.issuer is not None
    assert (settings.issuer.kra_pin, settings.receipt_base_url) == ("P051234567X", "https://pay.example.org")
    for name in ISSUER:
        assert f"PAYMENTS_{name.upper()}" in refusal(**ISSUER | {name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("receipt_issuer_name", "Line\nbreak"),
        ("receipt_issuer_name", "長途汽車"),
        ("receipt_issuer_address", "a" * 161),
        ("receipt_issuer_kra_pin", "051234567"),
        ("receipt_base_url", "http://pay.example.org"),
        ("receipt_base_url", "https://pay.example.org/sub"),
        ("receipt_base_url", "pay.example.org"),
    ],
)
def test_what_cannot_stand_on_a_receipt_is_refused_by_name(name: str, value: str) -> None:
    assert f"PAYMENTS_{name.upper()}" in refusal(**ISSUER | {name: value})


def test_links_of_tax_invoices_lead_to_the_tax_authority_unless_other_hosts_are_set() -> None:
    assert PaymentSettings.load(**GOOD).invoice_hosts == ("kra.go.ke",)
    two = PaymentSettings.load(**GOOD, tax_invoice_hosts="KRA.go.ke, etims.example")
    assert two.invoice_hosts == ("kra.go.ke", "etims.example")
    for wrong in ("", "ke", "https://kra.go.ke", "kra.go.ke,", "*.kra.go.ke"):
        assert "PAYMENTS_TAX_INVOICE_HOSTS" in refusal(tax_invoice_hosts=wrong)


def test_a_logo_that_is_no_small_png_is_refused(tmp_path: Path) -> None:
    assert load_logo(None) is None
    good, big, broken = tmp_path / "good.png", tmp_path / "big.png", tmp_path / "broken.png"
    Image.new("RGB", (40, 20)).save(good)
    Image.new("RGB", (2_001, 1)).save(big)
    broken.write_bytes(good.read_bytes()[:40])
    assert load_logo(good) == good.read_bytes()
    large = tmp_path / "large.png"
    Image.new("P", (2_000, 500)).save(large)
    with Image.open(io.BytesIO(load_logo(large) or b"")) as scaled:
        assert scaled.size == (804, 201), "it is no larger than it is printed"
    for path in (big, broken, tmp_path / "missing.png", Path(__file__)):
        with pytest.raises(StartRefused, match="PAYMENTS_RECEIPT_LOGO_FILE"):
            load_logo(path)


def test_the_defaults_fit_together() -> None:
    assert PaymentSettings.load(**GOOD).times.lease.total_seconds() == 45


@pytest.mark.parametrize(
    ("url", "queries"),
    [
        ("https://api.safaricom.co.ke", 60),
        ("https://sandbox.safaricom.co.ke", 5),
        ("http://127.0.0.1:8070", 5),
    ],
)
def test_how_often_is_asked_follows_from_where_daraja_is(url: str, queries: float) -> None:
    settings = PaymentSettings.load(**GOOD, daraja_base_url=url)
    assert settings.queries_per_minute == queries
    assert f"PAYMENTS_QUERIES_PER_MINUTE={queries}" in render_settings(settings)
    assert PaymentSettings.load(**GOOD, daraja_base_url=url, queries_per_minute=7).queries_per_minute == 7


def test_a_rate_that_is_none_is_refused_with_what_to_do() -> None:
    sentence = refusal(queries_per_minute=0)
    assert sentence.startswith("The flag for PAYMENTS_QUERIES_PER_MINUTE has a value that cannot be used")
    assert "or leave it out (queries a minute" in sentence


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lease_s": 32, "push_timeout_s": 30}, ("PAYMENTS_LEASE_S", "PAYMENTS_PUSH_TIMEOUT_S")),
        ({"retry_wait_s": 5, "push_timeout_s": 30}, ("PAYMENTS_RETRY_WAIT_S", "PAYMENTS_PUSH_TIMEOUT_S")),
        ({"watch_for_s": 100, "expire_after_s": 101}, ("PAYMENTS_WATCH_FOR_S", "PAYMENTS_EXPIRE_AFTER_S")),
        ({"heartbeat_s": 16}, ("PAYMENTS_HEARTBEAT_S",)),
        ({"initiator_name": "operator"}, ("PAYMENTS_INITIATOR_PASSWORD_FILE", "PAYMENTS_INITIATOR_CERTIFICATE_FILE")),
        ({"initiator_password": "hush"}, ("PAYMENTS_INITIATOR_NAME", "PAYMENTS_INITIATOR_CERTIFICATE_FILE")),
        ({"pull_interval_s": 0}, ("PAYMENTS_PULL_INTERVAL_S",)),
        ({"pull_nominated_number": "0722000000"}, ("PAYMENTS_PULL_NOMINATED_NUMBER",)),
    ],
)
def test_times_that_cannot_work_together_are_refused_by_name(
    changed: dict[str, object], named: tuple[str, ...]
) -> None:
    sentence = refusal(**changed)
    assert all(name in sentence for name in named)


@pytest.mark.parametrize("url", ["127.0.0.1:5/payments", "user:hush@host/db", "mysql://u:hush@h/d", "postgresql://h:x"])
def test_a_database_that_is_no_address_is_refused_without_showing_it(url: str) -> None:
    assert "PAYMENTS_DATABASE_URL" in refusal(database_url=url)
    with pytest.raises(SettingsUnusable, match="PAYMENTS_OWNER_DATABASE_URL"):
        OwnerSettings.load(database_url=url)


@pytest.mark.parametrize("url", ["sandbox.safaricom.co.ke", "ftp://host", "https://", "https://u:hush@h", "http://h:x"])
def test_a_daraja_that_is_no_address_is_refused(url: str) -> None:
    assert "PAYMENTS_DARAJA_BASE_URL" in refusal(daraja_base_url=url)


@pytest.mark.parametrize("url", ["http://sandbox.safaricom.co.ke", "http://192.0.2.1:8070", "http://localhost.example"])
def test_the_consumer_secret_leaves_this_machine_encrypted_only(url: str) -> None:
    assert "expected https://HOST" in refusal(daraja_base_url=url)
    https = url.replace("http:", "https:")
    assert PaymentSettings.load(**GOOD, daraja_base_url=https).daraja_base_url == https


@pytest.mark.parametrize("url", ["http://127.0.0.1:8070", "http://[::1]:8070", "http://localhost"])
def test_a_daraja_on_this_machine_may_speak_plain_http(url: str) -> None:
    assert PaymentSettings.load(**GOOD, daraja_base_url=url).daraja_base_url == url


def test_missing_keys_are_told_with_a_command_that_makes_them(tmp_path: Path) -> None:
    path, callback_keys = tmp_path / "my keys.json", tmp_path / "callback-keys.json"
    with pytest.raises(KeysUnusable) as refused:
        load_keys(path)
    command = str(refused.value).partition("make one with: ")[2]
    assert command.startswith("payment-service ")
    subprocess.run(
        f"{shlex.quote(sys.executable)} -m payment_service {command.removeprefix('payment-service ')}",
        shell=True,
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env={"PATH": "/usr/bin:/bin", "PAYMENTS_CALLBACK_KEYS_FILE": str(callback_keys)},
    )
    assert load_keys(path).sealing.current_id == "1"
    assert callback_keys.exists()


def test_damaged_keys_are_to_be_restored_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_keys(path)
    whole = path.read_text()
    for damaged in ("", whole[:-20], whole.replace("chain", "chains"), "[]", whole.replace('"1": "', '"1": "zz')):
        path.write_text(damaged)
        with pytest.raises(KeysUnusable, match="backup") as refused:
            load_keys(path)
        assert "create-keys" not in str(refused.value)
        assert not any(ring["keys"]["1"] in str(refused.value) for ring in json.loads(whole).values())
    create_keys(path)
    assert path.read_text() == damaged


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hush@db.example:5432/payments",
        "postgresql://u:hush@192.0.2.7/payments?sslmode=require",
        "postgresql:///payments?host=db.example",
    ],
)
def test_a_database_elsewhere_is_reached_by_checked_tls_only(url: str) -> None:
    assert "sslmode=verify-full" in refusal(database_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hush@127.0.0.1:5432/payments",
        "postgresql:///payments?host=/run/postgresql",
        "postgresql://u:hush@db.example/payments?sslmode=verify-full",
    ],
)
def test_a_database_here_or_behind_checked_tls_is_used(url: str) -> None:
    PaymentSettings.load(**(GOOD | {"database_url": url}))


@pytest.mark.parametrize(
    ("of", "load"),
    [
        ("PAYMENTS", lambda: PaymentSettings.load(**GOOD)),
        ("GATEWAY", lambda: GatewaySettings.load(plaintext=True, callback_keys_file="callback-keys.json")),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_stops_no_start(
    monkeypatch: pytest.MonkeyPatch, of: str, load: Callable[[], object]
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "50051",
        "SERVICE_PORT_GRPC": "50051",
        "PORT": "tcp://10.0.0.7:50051",
        "PORT_50051_TCP": "tcp://10.0.0.7:50051",
        "PORT_50051_TCP_PROTO": "tcp",
        "PORT_50051_TCP_PORT": "50051",
        "PORT_50051_TCP_ADDR": "10.0.0.7",
    }.items():
        monkeypatch.setenv(f"{of}_{name}", value)
    load()


@pytest.mark.parametrize("name", ["PAYMENTS_LISTEN", "PAYMENTS_PORT"])
def test_where_to_listen_is_found_under_the_names_that_people_try(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "50051")
    assert f"{name} is not a setting: did you mean PAYMENTS_GRPC_ADDRESS?" in refusal()


@pytest.mark.parametrize("content", ['{"number": "174379"}', "[5]"])
def test_shortcodes_that_are_no_list_of_objects_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "shortcodes.json").write_text(content)
    with pytest.raises(StartRefused, match=r"it is no list|no object"):
        load_shortcodes(tmp_path / "shortcodes.json")


TLS: dict[str, object] = {
    "tls_certificate_file": "service.pem",
    "tls_key_file": "service-key.pem",
    "tls_client_ca_file": "authority.pem",
    "callers_file": "callers.json",
}


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "payments.example:50051", "127.0.0.1:50051"])
def test_with_certificates_every_address_is_served(address: str) -> None:
    settings = PaymentSettings.load(**GOOD | TLS | {"plaintext": False, "grpc_address": address})
    assert str(settings.grpc_address) == address
    assert settings.server_tls is not None


def test_plaintext_has_to_be_asked_for_and_stays_on_this_machine() -> None:
    sentence = refusal(plaintext=False)
    for setting in TLS:
        assert f"PAYMENTS_{setting.upper()}" in sentence or setting == "callers_file"
    assert "PAYMENTS_PLAINTEXT=true" in sentence
    assert "PAYMENTS_CALLERS_FILE" in refusal(**TLS | {"plaintext": False, "callers_file": ""})
    assert "loopback" in refusal(grpc_address="0.0.0.0:50051")
    assert "PAYMENTS_PLAINTEXT is set beside files for TLS" in refusal(**TLS)
    with pytest.raises(StartRefused, match="PAYMENTS_PLAINTEXT is set beside files for TLS"):
        OperatorSettings.load(plaintext=True, client_key_file="operator-key.pem")
