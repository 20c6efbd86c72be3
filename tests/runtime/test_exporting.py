"""Counters and spans reach those who read them: a Prometheus page, and a collector that speaks OTLP."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.patience import PATIENCE_SECONDS

UNREAD_PROGRAM = """
import os, threading
from opentelemetry import metrics, trace
from runtime.exporting import exporting
def costs():
    sockets = [one for one in os.listdir("/proc/self/fd") if os.path.islink(path := f"/proc/self/fd/{one}")
               and os.readlink(path).startswith("socket:")]
    # A thread that Python has joined may stand in /proc for a moment more.
    return threading.active_count(), len(sockets)
before = costs()
counter = metrics.get_meter("kettle").create_counter("boiled")
with exporting("kettle", None, "KETTLE_METRICS_ADDRESS") as served:
    counter.add(1)
    with trace.get_tracer("kettle").start_as_current_span("boil") as span:
        print(served, costs() == before, span.is_recording(), type(metrics.get_meter_provider()).__module__)
"""

PROGRAM = """
import sys, urllib.request
from opentelemetry import trace
from runtime.alarms import Alarm, LastingAlarm, raise_alarm
from runtime.exporting import exporting
from runtime.serving import Address, ending_on_refusal
page = Address("127.0.0.1", int(sys.argv[1])) if len(sys.argv) > 1 else None
with ending_on_refusal(), exporting("kettle", page, "KETTLE_METRICS_ADDRESS") as served:
    raise_alarm(Alarm("kettle_dry", "No water.", "Fill it."))
    hot = LastingAlarm(Alarm("kettle_hot", "It boils.", "Wait."))
    hot.set(True)
    with trace.get_tracer("kettle").start_as_current_span("boil"):
        pass
    if served is not None:
        print(urllib.request.urlopen(f"http://{served}/metrics").read().decode())
"""


def run(*words: str, program: str = PROGRAM, **variables: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own: providers are set once in a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}  # noqa: TID251 -- the child's environment is the subject
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_prometheus_reads_alarms_from_a_page_of_its_own() -> None:
    done = run("0")
    assert done.returncode == 0, done.stderr
    assert re.search(r'^alarms_raised_total\{alarm="kettle_dry".*\} 1\.0$', done.stdout, re.MULTILINE)
    assert re.search(r'^alarms_lasting\{alarm="kettle_hot".*\} 1\.0$', done.stdout, re.MULTILINE)


def test_where_nobody_reads_nothing_is_recorded_started_or_opened() -> None:
    done = run(program=UNREAD_PROGRAM)
    assert (done.returncode, done.stdout) == (0, "None True False opentelemetry.metrics._internal\n"), done.stderr


def test_a_taken_port_is_one_sentence_with_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        done = run(str(port))
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr
    assert "KETTLE_METRICS_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr


class Collector(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """What a collector of OpenTelemetry is told."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.metrics: list[str] = []
        self.services: set[str] = set()

    async def Export(self, request: object, context: object) -> object:
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            for resource in request.resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                self.spans += [span.name for scope in resource.scope_spans for span in scope.spans]
            return trace_service_pb2.ExportTraceServiceResponse()
        assert isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest)
        for told in request.resource_metrics:
            self.metrics += [metric.name for scope in told.scope_metrics for metric in scope.metrics]
        return metrics_service_pb2.ExportMetricsServiceResponse()


async def test_a_collector_is_told_by_the_standard_variables() -> None:
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoint = f"http://127.0.0.1:{port}"
    done = await asyncio.to_thread(run, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="kettle-2")
    assert done.returncode == 0, done.stderr
    assert collector.spans == ["boil"]
    assert {"alarms.raised", "alarms.lasting"} <= set(collector.metrics)
    assert collector.services == {"kettle-2"}

    quiet = await asyncio.to_thread(run, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_TRACES_EXPORTER="none")
    assert quiet.returncode == 0, quiet.stderr
    assert collector.spans == ["boil"], "no further span"
    await server.stop(None)
