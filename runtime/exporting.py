"""Where spans and counters go: to a collector by OTLP, and to a page that Prometheus reads.

OTLP is switched on as everywhere in OpenTelemetry: OTEL_EXPORTER_OTLP_ENDPOINT, or its variants for traces or metrics
alone; OTEL_TRACES_EXPORTER=none and OTEL_METRICS_EXPORTER=none switch one of the two off, OTEL_SDK_DISABLED both. All
other OTEL_ variables are read by the exporters themselves. The Prometheus page has a listener of its own, which the
program's settings name. Where neither is asked for, nothing is recorded and nothing costs: what only one of them needs
is imported where it is asked for, as both take 0.3 s at each start.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.serving import Address, AddressTaken, is_address_taken

NONE = "none"


class OtlpSettings(BaseSettings):
    """The standard variables that say whether anything is exported; the exporters read the rest themselves."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True, extra="ignore")

    sdk_disabled: bool = False
    traces_exporter: str = ""
    metrics_exporter: str = ""
    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_metrics_endpoint: str = ""

    @property
    def traces(self) -> bool:
        """Whether spans go to a collector."""
        wanted = self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint
        return bool(wanted) and self.traces_exporter != NONE and not self.sdk_disabled

    @property
    def metrics(self) -> bool:
        """Whether counters go to a collector."""
        wanted = self.exporter_otlp_endpoint or self.exporter_otlp_metrics_endpoint
        return bool(wanted) and self.metrics_exporter != NONE and not self.sdk_disabled


@contextlib.contextmanager
def exporting(program: str, page: Address | None, setting: str) -> Iterator[Address | None]:
    """Export while the block runs, and send what is left at its end. Call it once in a process.

    `page` is where Prometheus reads, and `setting` what names it; gives back where it really is. Raises AddressTaken.
    """
    otlp = OtlpSettings()
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our own words.
    instance = f"{socket.gethostname()}-{os.getpid()}"
    resource = Resource.create({"service.name": program, "service.instance.id": instance})
    resource = resource.merge(OTELResourceDetector().detect())
    # Spans that nobody takes need ids, for the log lines and the rows, and nothing inside them.
    tracing = TracerProvider(None if otlp.traces else ALWAYS_OFF, resource, shutdown_on_exit=False)
    if otlp.traces:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    with contextlib.ExitStack() as stack:
        stack.callback(tracing.shutdown)
        readers: list[MetricReader] = []
        if otlp.metrics:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        served = stack.enter_context(_prometheus_page(page, setting, readers)) if page is not None else None
        if readers:
            metering = MeterProvider(readers, resource, shutdown_on_exit=False)
            metrics.set_meter_provider(metering)
            stack.callback(metering.shutdown)
        yield served


@contextlib.contextmanager
def _prometheus_page(page: Address, setting: str, readers: list[MetricReader]) -> Iterator[Address]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(page.port, page.host)
    except OSError as error:
        if is_address_taken(error):
            raise AddressTaken(page, setting) from None
        raise
    readers.append(PrometheusMetricReader())
    try:
        yield Address(page.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
