"""The case desk of a system on one machine, and the door before it that two people can log in at.

Decides who these people are: an operator, and a second one, since much money moves only once two have agreed. The desk
itself is started as in production, behind a proxy (`desk_door`) whose secret is made at the first start.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from development.certificates import APPROVER, OPERATOR, Certificates
from development.parts import House, Part, start_part, write_secret
from development.postgres import HOST, find_free_port

DESK, DESK_DOOR = "case-desk", "desk-door"
PERSONS: Final = (OPERATOR, APPROVER)


class CaseDesk(NamedTuple):
    """Where people settle cases."""

    url: str
    log_in: Mapping[str, str]
    """The link by which each of them logs in."""


async def start_desk(house: House, service: str, certificates: Certificates, port: int, parts: list[Part]) -> CaseDesk:
    """Start the desk, as a caller of the service at this address, and the door at this port."""
    keys_file = house.data_dir / "case-desk-keys.json"
    keys = _keys(keys_file)
    # The desk has to know how browsers name it before the door serves.
    door = f"{HOST}:{port or find_free_port()}"
    settings = certificates.desk_settings | {
        "DESK_PROXY_ADDRESSES": HOST,
        "DESK_PROXY_SECRET_FILE": str(write_secret(house.data_dir / "case-desk-secret", keys["proxy_secret"])),
        "DESK_ORIGIN": f"http://{door}",
    }
    words = ["case_desk", "serve", f"--listen={HOST}:0", f"--core={service}"]
    parts.append(await start_part(house, DESK, words, settings))
    words = ["development.desk_door", f"--listen={door}", f"--desk={parts[-1].ready['address']}"]
    parts.append(await start_part(house, DESK_DOOR, [*words, f"--keys-file={keys_file}"], {}))
    url = f"http://{door}"
    return CaseDesk(url, {person: f"{url}/log-in/{keys['links'][person]}" for person in PERSONS})


def _keys(file: Path) -> dict[str, Any]:
    """Found again at the next start, so that whoever is logged in stays so."""
    if not file.exists():
        links = {person: secrets.token_urlsafe(32) for person in PERSONS}
        write_secret(file, json.dumps({"proxy_secret": secrets.token_urlsafe(32), "links": links}))
    keys: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return keys
