"""How operators' commands reach the service."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb

from development.certificates import OPERATOR, SERVICE, make_certificates
from payment_service.alarms import TLS_FILES_UNUSABLE
from payment_service.commands.asking import Reached, operations
from runtime.serving import Address, StartRefused
from runtime.tls import FollowedFiles, server_credentials


async def test_a_certificate_that_is_not_accepted_is_told_from_a_service_that_is_not_there(tmp_path: Path) -> None:
    ours, others = (make_certificates(tmp_path / name) for name in ("ours", "others"))
    server = grpc.aio.server()
    credentials = server_credentials(FollowedFiles(others.files(SERVICE), others.content(SERVICE), TLS_FILES_UNUSABLE))
    address = Address("127.0.0.1", server.add_secure_port("127.0.0.1:0", credentials))
    await server.start()
    try:
        with pytest.raises(StartRefused, match="does not answer: name another with --service") as refused:
            async with operations(Reached(address, ours.content(OPERATOR))) as stub:
                await stub.ListCases(pb.ListCasesRequest())
    finally:
        await server.stop(0)
    assert "SSL_ERROR_SSL" in str(refused.value)
