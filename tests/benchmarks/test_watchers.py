"""A watcher counts as served only by exactly its own event; whoever got less, more or another's is counted as wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]


def completed(payment_id: str) -> messages.PaymentEvent:
    return messages.PaymentEvent(
        type=messages.PAYMENT_EVENT_TYPE_COMPLETED, payment=messages.Payment(payment_id=payment_id)
    )


async def watch_payment(request: pb.WatchPaymentRequest, context: Any) -> AsyncIterator[pb.WatchPaymentResponse]:
    """A service whose answer depends on the name of the payment."""
    if request.payment_id == "refused":
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
    yield pb.WatchPaymentResponse(snapshot=pb.PaymentSnapshot())
    match request.payment_id:
        case "twice":
            yield pb.WatchPaymentResponse(events=[completed("twice"), completed("twice")])
        case "another's":
            yield pb.WatchPaymentResponse(events=[completed("good")])
        case "nothing":
            await asyncio.Event().wait()
        case payment_id:
            yield pb.WatchPaymentResponse(events=[completed(payment_id)])


async def test_only_exactly_its_own_event_counts(tmp_path: Path) -> None:
    handler = grpc.unary_stream_rpc_method_handler(
        watch_payment,
        request_deserializer=pb.WatchPaymentRequest.FromString,
        response_serializer=pb.WatchPaymentResponse.SerializeToString,
    )
    server = grpc.aio.server()
    service = "mpesa_payments.v1.PaymentService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"WatchPayment": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    times = tmp_path / "times.json"
    flags = [f"--address=127.0.0.1:{port}", f"--timeout={PATIENCE_SECONDS}", f"--times-file={times}"]
    words, pipe = ["-m", "benchmarks.watchers", *flags], asyncio.subprocess.PIPE
    watchers = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=PROJECT, stdin=pipe, stdout=pipe)
    assert watchers.stdin is not None
    assert watchers.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        watchers.stdin.write(b"good\nfine\ntwice\nanother's\nnothing\nrefused\n\n")
        told = [json.loads(await watchers.stdout.readline()) for _ in range(2)]
        # The one that gets nothing would wait for ever.
        watchers.stdin.close()
        told.append(json.loads(await watchers.stdout.readline()))
        assert await watchers.wait() == 0
    await server.stop(None)
    assert [told[0], told[1]["opened"], told[2]["served"]] == [{"ready": True}, 5, 2]
    wrong = {name: count for name, count in told[2]["wrong"].items() if count}
    assert wrong == {"not exactly its own event": 2, "nothing came": 1, "RESOURCE_EXHAUSTED": 1}
    assert set(json.loads(times.read_text(encoding="utf-8"))) == {"good", "fine"}
