"""The service's commands, typed as an operator types them: what cannot work is one sentence, and exit code 1."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from development.certificates import BOOKING, make_certificates
from development.postgres import find_free_port
from development.slowness import slowness
from payment_service.security.keys import create_keys
from runtime.key_rings import create_key_ring
from tests.commands.started import command


def sentence_of(done: tuple[int, str, str]) -> str:
    code, _, errors = done
    assert code == 1, done
    (sentence,) = errors.splitlines()
    assert "hush" not in sentence
    return sentence


async def refusal(settings: dict[str, str], *words: str) -> str:
    return sentence_of(await command(settings, *words))


@pytest.fixture
def installation(tmp_path: Path) -> dict[str, str]:
    """Settings that serve would take, but for a database that does not answer."""
    create_keys(tmp_path / "keys.json")
    create_key_ring(tmp_path / "callback-keys.json")
    (tmp_path / "shortcodes.json").write_text('[{"number": "174379", "kind": "PAYBILL", "passkey": "hush"}]')
    return {
        "PAYMENTS_PLAINTEXT": "true",
        "PAYMENTS_DATABASE_URL": f"postgresql://user:hush@127.0.0.1:{find_free_port()}/payments",
        "PAYMENTS_KEYS_FILE": str(tmp_path / "keys.json"),
        "PAYMENTS_CALLBACK_KEYS_FILE": str(tmp_path / "callback-keys.json"),
        "PAYMENTS_SHORTCODES_FILE": str(tmp_path / "shortcodes.json"),
        "PAYMENTS_DARAJA_CONSUMER_KEY": "key",
        "PAYMENTS_DARAJA_CONSUMER_SECRET": "hush",
        "PAYMENTS_CALLBACK_BASE_URL": "https://pay.example.org",
    }


async def test_keys_cannot_be_made_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    file = str(tmp_path / "missing" / "keys.json")
    assert file in await refusal({}, "create-keys", file, str(tmp_path / "callback-keys.json"))


async def test_a_database_that_does_not_answer_is_not_migrated() -> None:
    url = f"postgresql://owner:hush@127.0.0.1:{find_free_port()}/payments"
    sentence = await refusal({"PAYMENTS_OWNER_DATABASE_URL": url}, "migrate")
    assert "PAYMENTS_OWNER_DATABASE_URL cannot be used" in sentence
    assert "refused" in sentence


def test_check_config_passes_what_serve_would_take(installation: dict[str, str]) -> None:
    """With a program of its own, started as the package says, which the others here are forks of."""
    done = subprocess.run(
        [sys.executable, "-m", "payment_service", "serve", "--check-config"],
        capture_output=True,
        text=True,
        timeout=90 * slowness(),
        env={"PATH": "/usr/bin:/bin", **installation},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "PAYMENTS_DARAJA_CONSUMER_SECRET=[set, not shown]" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAYMENTS_CALLBACK_BASE_URL", "https://localhost"),
        ("PAYMENTS_KEYS_FILE", "none.json"),
        ("PAYMENTS_CALLBACK_KEYS_FILE", "none.json"),
        ("PAYMENTS_SHORTCODES_FILE", "none.json"),
    ],
)
async def test_check_config_and_serve_refuse_the_same(installation: dict[str, str], name: str, value: str) -> None:
    settings = installation | {name: value}
    checked = await command(settings, "serve", "--check-config")
    sentence = sentence_of(checked)
    assert sentence == await refusal(settings, "serve")
    assert f"{name}={value}" in checked[1].splitlines()
    assert "none.json" in sentence or name in sentence


@pytest.mark.parametrize("name", ["PAYMENTS_KEYS_FILE", "PAYMENTS_CALLBACK_KEYS_FILE", "PAYMENTS_SHORTCODES_FILE"])
async def test_a_file_with_secrets_that_others_may_read_keeps_the_service_from_starting(
    installation: dict[str, str], name: str
) -> None:
    Path(installation[name]).chmod(0o644)
    sentence = await refusal(installation, "serve")
    assert installation[name] in sentence
    assert "chmod 600" in sentence


async def test_check_config_reads_the_initiators_certificate(installation: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text(json.dumps("no certificate"))
    initiator = {
        "PAYMENTS_INITIATOR_NAME": "operator",
        "PAYMENTS_INITIATOR_PASSWORD": "hush",
        "PAYMENTS_INITIATOR_CERTIFICATE_FILE": str(tmp_path / "certificate.pem"),
    }
    sentence = await refusal(installation | initiator, "serve", "--check-config")
    assert "PAYMENTS_INITIATOR_CERTIFICATE_FILE cannot be used" in sentence


async def test_check_config_and_serve_refuse_the_same_certificate(installation: dict[str, str], tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    settings = installation | certificates.service_settings | {"PAYMENTS_PLAINTEXT": "false"}
    code, _, errors = await command(settings, "serve", "--check-config", "--listen", "0.0.0.0:0")
    assert (code, errors) == (0, "")
    wrong = settings | {"PAYMENTS_TLS_KEY_FILE": str(certificates.key(BOOKING))}
    checked = await refusal(wrong, "serve", "--check-config")
    assert checked.startswith("PAYMENTS_TLS_KEY_FILE names")
    assert checked == await refusal(wrong, "serve")
    certificates.callers.write_text("[]")
    assert "it lists nobody" in await refusal(settings, "serve", "--check-config")
