"""Settings that hold a secret: where a secret may stand, and what a URL of the database has to say."""

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from payment_service.daraja.shortcodes import is_production
from runtime.serving import Address
from runtime.settings import ProgramSettings


class SecretsInFiles(ProgramSettings):
    """Settings of a program that, against production, has its secrets from files only."""

    other_secrets: ClassVar[Mapping[str, str]] = {
        "PGPASSWORD": "put the password in the URL in the file that PAYMENTS_DATABASE_URL_FILE names"
    }

    @classmethod
    def why_files_only(cls, environment: Mapping[str, str | None]) -> str | None:
        """Where the environment of the machine says that this is production, whichever command is typed there."""
        url = environment.get("payments_daraja_base_url")
        return "PAYMENTS_DARAJA_BASE_URL is production's" if url and is_production(url) else None


def checked_database_url(url: SecretStr) -> SecretStr:
    """The URL, or ValueError with what was expected."""
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in ("postgresql", "postgres") and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    host, given = parts.hostname or "", parse_qs(parts.query)
    # Without a host, or with a folder in its place, it is a socket of this machine.
    here = Address(host, 0).is_loopback if host else not given.get("host") or given["host"][0].startswith("/")
    if not here and given.get("sslmode") != ["verify-full"]:
        raise ValueError(
            "the database is not on this machine, so the URL has to end in ?sslmode=verify-full (with sslrootcert=FILE"
            " unless the system knows its certificate)"
        )
    return url
