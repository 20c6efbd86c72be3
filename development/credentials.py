"""The keys and credentials of a system on one machine, as files that only the data folder's owner can read.

Decides what a part, or a person, needs to have in its hands; a second start finds all of it again. The schema is made
here as well, since its owner gives the service's role its password.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from development.parts import House, run_command, write_secret
from runtime.development_values import SECRET_PREFIX

# The first passkey is the one that Safaricom publishes for everyone's use of its sandbox; the other exists in the
# simulator only, and so do the credentials. None of them opens anything else.
SANDBOX_PASSKEY = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"
SIMULATOR_CONSUMER_KEY = f"{SECRET_PREFIX}consumer-key"
SIMULATOR_CONSUMER_SECRET = f"{SECRET_PREFIX}consumer-secret"
SIMULATOR_INITIATOR_NAME = f"{SECRET_PREFIX}initiator"
SIMULATOR_INITIATOR_PASSWORD = f"{SECRET_PREFIX}initiator-password"
CERTIFICATE = "simulator-certificate.pem"
SHORTCODES: Sequence[Mapping[str, str]] = (
    {"number": "174379", "kind": "PAYBILL", "passkey": SANDBOX_PASSKEY},
    {"number": "600584", "kind": "TILL", "till_number": "300584", "passkey": f"{SECRET_PREFIX}passkey"},
)


async def prepare(house: House, owner_url: str) -> dict[str, Path]:
    """Keys and the schema, each made by the service's own commands; the files a part or a person needs."""
    folder = house.data_dir
    role, password = _application_login(folder / "application-login.json")
    parts = urlsplit(owner_url)
    host = parts.netloc.rpartition("@")[2]
    application_url = parts._replace(netloc=f"{quote(role, safe='')}:{quote(password, safe='')}@{host}").geturl()
    files = {
        "owner_database_url_file": write_secret(folder / "owner-database-url", owner_url),
        "database_url_file": write_secret(folder / "database-url", application_url),
        "keys_file": folder / "keys.json",
        "callback_keys_file": folder / "callback-keys.json",
    }
    keys = ["payment_service", "create-keys", "--for-development"]
    keys += [str(files["keys_file"]), str(files["callback_keys_file"])]
    owner = {
        "PAYMENTS_OWNER_DATABASE_URL_FILE": str(files["owner_database_url_file"]),
        "PAYMENTS_OWNER_APPLICATION_ROLE": role,
        "PAYMENTS_OWNER_APPLICATION_PASSWORD_FILE": str(write_secret(folder / "application-password", password)),
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(run_command(house, "create-keys", keys, {}))
        group.create_task(run_command(house, "migrate", ["payment_service", "migrate"], owner))
    return files


def _application_login(path: Path) -> tuple[str, str]:
    """A role of this folder's own: two folders can share a server without changing each other's password."""
    if not path.exists():
        login = {"role": f"payments_{secrets.token_hex(4)}", "password": secrets.token_urlsafe(24)}
        write_secret(path, json.dumps(login))
    login = json.loads(path.read_text(encoding="utf-8"))
    return login["role"], login["password"]


def simulator_credentials(folder: Path) -> dict[str, Path]:
    # No secret, but nothing in this folder is for others. The simulator wrote it before it served.
    (folder / CERTIFICATE).chmod(0o600)
    return {
        "daraja_consumer_key_file": write_secret(folder / "daraja-consumer-key", SIMULATOR_CONSUMER_KEY),
        "daraja_consumer_secret_file": write_secret(folder / "daraja-consumer-secret", SIMULATOR_CONSUMER_SECRET),
        "shortcodes_file": write_secret(folder / "shortcodes.json", json.dumps(SHORTCODES, indent=2)),
        "initiator_password_file": write_secret(folder / "initiator-password", SIMULATOR_INITIATOR_PASSWORD),
        "initiator_certificate_file": folder / CERTIFICATE,
    }
