"""OpenTelemetry's instrumentor on the app: each request becomes a span with its route."""

import pytest
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

pytestmark = pytest.mark.anyio


async def test_an_instrumented_app_makes_a_span_with_the_route(serve, picture):
    exporter, provider, apps = InMemorySpanExporter(), TracerProvider(), []
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def customize(app):
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
        apps.append(app)

    async with serve(customize=customize) as running:
        response = await running.client.post("/classify", content=picture())
        refused = await running.client.post("/classify", content=b"")
        FastAPIInstrumentor.uninstrument_app(apps[0])
        again = await running.client.post("/classify", content=picture())
    spans = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    spans = [span for span in spans if span.attributes["http.route"] == "/classify"]
    assert [each.status_code for each in (response, refused, again)] == [200, 400, 200]
    assert [span.name for span in spans] == ["POST /classify"] * 2
    assert [span.attributes["http.status_code"] for span in spans] == [200, 400]
