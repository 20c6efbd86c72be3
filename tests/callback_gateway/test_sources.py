"""From where a callback came: what the hop in front says is believed from it alone, and no address is refused."""

from ipaddress import ip_network
from pathlib import Path

import pytest
import structlog

from callback_gateway.config import GatewaySettings
from callback_gateway.sources import SAFARICOM, SOURCE_HEADER, Sources, StrangeSources
from runtime.networks import Networks
from runtime.rarely import QUIET_S
from runtime.settings import SettingsUnusable
from tests.callback_gateway.edges import gateway, good_path, request_bytes, send
from tests.callback_gateway.recording_core import RecordingCore

STRANGER, LISTED = "8.8.8.8", "196.201.214.200"
HOP = Networks([ip_network("127.0.0.1")])


async def source_kept(core: RecordingCore, *headers: str, **settings: object) -> str:
    async with gateway(core.address, **settings) as address:
        reply = await send(address, request_bytes("POST", good_path(), b"{}", *headers))
    assert reply.status == 200
    return core.calls[-1][0].source_address


async def test_the_hop_in_front_tells_the_senders_address(core: RecordingCore) -> None:
    told = f"{SOURCE_HEADER}: {LISTED}"
    assert await source_kept(core, told, proxy_addresses="10.0.0.0/28, 127.0.0.1") == LISTED


async def test_nobody_else_tells_an_address(core: RecordingCore) -> None:
    told = f"{SOURCE_HEADER}: {LISTED}"
    assert await source_kept(core, told) == "127.0.0.1", "no hop is set up"
    assert await source_kept(core, told, proxy_addresses="10.0.0.5") == "127.0.0.1"
    forwarded = [f"X-Forwarded-For: {LISTED}", f"X-Real-IP: {LISTED}", f"Forwarded: for={LISTED}"]
    assert await source_kept(core, *forwarded, proxy_addresses="127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    "told",
    [[], ["", ""], [LISTED, STRANGER], ["safaricom"], [f"{LISTED}, {STRANGER}"], ["196.201.214.2000"]],
    ids=["none", "two, empty", "two", "a name", "a list", "no address"],
)
def test_a_hop_that_tells_no_one_address_is_taken_for_the_sender(told: list[str]) -> None:
    assert Sources(HOP, SAFARICOM).of("127.0.0.1", told) == "127.0.0.1"


def test_one_address_is_one_however_it_is_written() -> None:
    sources = Sources(HOP, SAFARICOM)
    assert sources.of("::ffff:127.0.0.1", [f" ::ffff:{LISTED} "]) == LISTED
    assert sources.of(None, [LISTED]) == ""


@pytest.mark.parametrize(
    ("source", "strange"),
    [
        (LISTED, False),
        ("196.201.212.127", False),
        (STRANGER, True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("", False),
    ],
)
def test_a_public_address_on_no_list_is_strange(source: str, strange: bool) -> None:
    assert Sources(Networks(), SAFARICOM).is_strange(source) is strange
    assert not Sources(Networks(), Networks()).is_strange(source), "nothing is expected, so nothing is strange"


async def test_a_true_token_from_a_strange_address_is_taken_and_a_person_is_told(core: RecordingCore) -> None:
    with structlog.testing.capture_logs() as lines:
        for address in (STRANGER, LISTED):
            assert await source_kept(core, f"{SOURCE_HEADER}: {address}", proxy_addresses="127.0.0.1") == address
    told = [line["source_address"] for line in lines if line.get("alarm") == "callback_source_unlisted"]
    assert told == [STRANGER]


async def test_a_forged_token_from_a_strange_address_is_no_alarm(core: RecordingCore) -> None:
    told = f"{SOURCE_HEADER}: {STRANGER}"
    with structlog.testing.capture_logs() as lines:
        async with gateway(core.address, proxy_addresses="127.0.0.1") as address:
            reply = await send(address, request_bytes("POST", good_path()[:-1] + "!", b"{}", told))
    assert reply.status == 404
    assert [line for line in lines if "alarm" in line] == []


def test_whoever_has_a_true_url_does_not_flood_the_log() -> None:
    now = 0.0
    strange = StrangeSources(lambda: now)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1_000):
            strange.seen(STRANGER)
        now = QUIET_S
        strange.seen(STRANGER)
    assert [line["callbacks"] for line in lines] == [1, 1_000]


def test_a_list_that_is_none_is_named() -> None:
    with pytest.raises(SettingsUnusable, match=r"GATEWAY_PROXY_ADDRESSES.*expected addresses or networks"):
        GatewaySettings.load(callback_keys_file=Path("unused"), plaintext=True, proxy_addresses="the proxy")
