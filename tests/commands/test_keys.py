"""`payment-service keys` as operators type it, beside a running service."""

import asyncio
from pathlib import Path

from payment_service.security.keys import load_keys
from tests.commands.started import command
from tests.databases import Database
from tests.parts import make_site
from tests.patience import PATIENCE_SECONDS
from tests.sending import NOBODY


async def test_a_running_service_reads_a_new_key_and_uses_it_when_told(database: Database, tmp_path: Path) -> None:
    site = make_site(tmp_path, database.application_url, NOBODY, NOBODY)
    environment = site.core_environment()
    async with site.running_core():
        code, said, errors = await command(environment, "keys", "add", "sealing")
        assert (code, errors) == (0, "")
        assert "has a new sealing key 2" in said
        code, said, errors = await command(environment, "keys", "use", "sealing", "2", "--wait", str(PATIENCE_SECONDS))
        assert (code, errors) == (0, "")
        assert "The sealing key 2 is the current one, and 1 running processes hold it." in said
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "still needed. It was last used" not in errors:
                # The service says by itself that it uses the other key now.
                code, said, errors = await command(environment, "keys", "retire", "sealing", "1")
                assert (code, said) == (1, "")
        code, said, errors = await command(environment, "keys", "list")
        assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert "sealing      2   current  held by 1 of 1 processes" in lines
    assert any(line.startswith("payment-service on ") and "heard" in line for line in lines)
    keys = load_keys(tmp_path / "keys.json")
    secrets = {key.hex() for ring in keys.rings.values() for key in ring.keys.values()}
    assert not any(secret in said for secret in secrets)
    code, said, errors = await command(environment, "keys", "use", "index", "1")
    assert (code, said) == (1, "")
    assert "payment-service keys reindex" in errors
