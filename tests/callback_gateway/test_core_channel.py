"""Gateway and payment service know each other: tokens go to nobody else, and new certificates need no restart."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from callback_gateway.alarms import TLS_FILES_UNUSABLE
from development.certificates import GATEWAY, SERVICE, Certificates, make_certificates, spiffe_id
from development.slowness import slowness
from runtime import followed_channel
from runtime.tls import FollowedFiles, server_credentials
from tests.callback_gateway.edges import FORWARD_TIME_S, eventually, gateway, good_path, post
from tests.callback_gateway.recording_core import RecordingCore, serve_core
from tests.certificates import authority_of, shown_by, write_over


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


def credentials_of(certificates: Certificates) -> grpc.ServerCredentials:
    return server_credentials(
        FollowedFiles(certificates.files(SERVICE), certificates.content(SERVICE), TLS_FILES_UNUSABLE)
    )


def settings_of(certificates: Certificates) -> dict[str, object]:
    return {name.removeprefix("GATEWAY_").lower(): path for name, path in certificates.gateway_settings.items()} | {
        "forward_time_s": FORWARD_TIME_S
    }


async def test_callbacks_travel_encrypted_and_the_gateway_says_who_it_is(certificates: Certificates) -> None:
    async with (
        serve_core(RecordingCore(), credentials=credentials_of(certificates)) as core,
        gateway(core.address, **settings_of(certificates)) as edge,
    ):
        assert (await post(edge, good_path(), b"1")).status == 200
        assert core.bodies == [b"1"]
        assert core.shown == [certificates.certificate(GATEWAY).read_bytes()]


async def test_whoever_takes_the_services_port_collects_no_token(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "other").mkdir()
    others = make_certificates(tmp_path / "other" / "certificates")
    for credentials in (None, credentials_of(others)):
        async with (
            serve_core(RecordingCore(), credentials=credentials) as imposter,
            gateway(imposter.address, **settings_of(certificates) | {"forward_time_s": 0.3 * slowness()}) as edge,
        ):
            assert (await post(edge, good_path(), b"1")).status == 503
            assert imposter.calls == []


async def test_a_gateway_that_is_not_let_in_says_so(certificates: Certificates) -> None:
    core = RecordingCore(failing=grpc.StatusCode.PERMISSION_DENIED)
    async with (
        serve_core(core, credentials=credentials_of(certificates)),
        gateway(core.address, **settings_of(certificates)) as edge,
    ):
        with capture_logs() as logs:
            assert (await post(edge, good_path(), b"1")).status == 503
    raised = [line for line in logs if line["event"] == "alarm"]
    assert [(line["alarm"], line["details"]) for line in raised] == [("service_refuses_gateway", "told to")]


async def test_a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_an_alarm(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_channel, "LOOK_EVERY_S", 0.01)
    async with (
        serve_core(RecordingCore(), credentials=credentials_of(certificates)) as core,
        gateway(core.address, **settings_of(certificates)) as edge,
    ):
        with capture_logs() as logs:
            write_over(certificates.certificate(GATEWAY), b"half a")
            await eventually(lambda: any(line.get("alarm") == "tls_files_unusable" for line in logs))
        assert (await post(edge, good_path(), b"1")).status == 200

        renewed = shown_by(authority_of(certificates), spiffe_id(GATEWAY))
        write_over(certificates.key(GATEWAY), renewed.key)
        write_over(certificates.certificate(GATEWAY), renewed.certificate)
        number = 1
        while core.shown[-1] != renewed.certificate:
            number += 1
            assert (await post(edge, good_path(), b"%d" % number)).status == 200
        assert core.bodies == [b"%d" % one for one in range(1, number + 1)]
