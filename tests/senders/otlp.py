"""Sends one set of metrics with the OpenTelemetry SDK: `otlp.py http|grpc cumulative|delta ENDPOINT`."""

import sys

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

transport, temporality, endpoint = sys.argv[1:]
if transport == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    options = {"endpoint": endpoint + "/v1/metrics", "compression": Compression.Gzip}
else:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    options = {"endpoint": endpoint, "insecure": True, "compression": grpc.Compression.Gzip}

chosen = getattr(AggregationTemporality, temporality.upper())
exporter = OTLPMetricExporter(preferred_temporality={Counter: chosen, Histogram: chosen}, timeout=30, **options)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
resource = Resource({"service.name": f"{transport}-{temporality}", "service.instance.id": "one", "host.name": "n7"})
provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
meter = provider.get_meter("senders")
orders = meter.create_counter("shop.orders", unit="{order}")
latency = meter.create_histogram("shop.latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
queue = meter.create_up_down_counter("shop.queue.size", unit="By")

for count in (3, 4):
    orders.add(count, {"pay.kind": "card"})
    latency.record(0.05 * count)
    queue.add(10)
    if not provider.force_flush():
        sys.exit("the export failed")
