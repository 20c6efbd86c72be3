"""What pages in a browser can send to the control API: nothing, whatever site or name they have."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from daraja_simulator.visitors import why_name_refused
from tests.daraja_simulator.merchant import Merchant, new_phone


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
async def test_a_page_of_another_origin_scripts_no_phone_and_resets_nothing(merchant: Merchant, origin: str) -> None:
    phone = new_phone()
    await merchant.push(phone)
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    bodies = {f"phones/{phone}/script": b'{"ending": "cancelled"}', "reset": b"", "takebacks": b"{}", "orders": b""}
    for path, body in bodies.items():
        method = "GET" if path == "orders" else "POST"
        async with merchant.session.request(
            method, f"{merchant.url}/control/{path}", data=body, headers=headers
        ) as answer:
            assert answer.status == 403
            assert "another site" in (await answer.json())["error"]
    assert (await merchant.ledger(phone=phone))["totals"]["prompted"] == 1
    assert await merchant.control(f"phones/{phone}/script", method="DELETE") == {"dropped": 0}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8070", "[", "10.0.0.1"])
async def test_a_name_of_somebody_elses_that_leads_here_reads_no_ledger(merchant: Merchant, host: str) -> None:
    for path in ("/control/ledger", "/phones"):
        async with merchant.session.get(merchant.url + path, headers={"Host": host}) as answer:
            assert answer.status == 403
    # As a browser sends it, to which that name is the page's own.
    headers = {"Host": host, "Origin": f"http://{host}"}
    async with merchant.session.post(f"{merchant.url}/control/reset", headers=headers) as answer:
        assert answer.status == 403


async def test_programs_and_the_simulators_own_pages_are_answered_by_every_name_of_this_machine(
    merchant: Merchant,
) -> None:
    port = urlsplit(merchant.url).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
            async with merchant.session.get(f"{merchant.url}/control/totals", headers=headers) as answer:
                assert answer.status == 200


def test_on_other_addresses_no_name_of_somebody_elses_is_answered_either() -> None:
    for name in ("", "evil.example", "192.168.1.5.evil.example", "evil.example.", "localhost.evil.example"):
        assert why_name_refused(name, by_loopback=False) is not None, name
    for name in ("192.168.1.5", "10.0.0.1", "127.0.0.1", "fe80::1", "localhost", "simulator"):
        assert why_name_refused(name, by_loopback=False) is None, name
