"""What every response has: request id, problem+json on errors, a log line and a count."""

import asyncio
import logging
import time
from io import BytesIO
from weakref import ref

import httpx
import pytest

from app.api.middleware import RequestMiddleware
from app.batching.job import Job
from app.core.errors import Overloaded
from app.core.scope import CLIENT, Client
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

pytestmark = pytest.mark.anyio


async def test_the_clients_request_id_is_in_the_response(serve):
    async with serve() as running:
        response = await running.client.get("/livez", headers={"X-Request-Id": "order-66.a:b_c"})
    assert response.headers["x-request-id"] == "order-66.a:b_c"


@pytest.mark.parametrize("invalid", ["", "a b", "x" * 129, 'in"jection', "é"])
async def test_an_invalid_request_id_is_replaced(serve, invalid):
    async with serve() as running:
        response = await running.client.get(
            "/livez", headers={"X-Request-Id": invalid.encode("latin-1")}
        )
    assert response.headers["x-request-id"] not in ("", invalid)


async def test_an_unknown_path_and_a_wrong_method_are_problems(serve):
    async with serve() as running:
        missing = await running.client.get("/nothing/here")
        wrong = await running.client.get("/classify")
        series = await running.series()
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert missing.json()["detail"] == "there is no route /nothing/here"
    assert wrong.json()["detail"] == "/classify does not support GET; send the image with POST"
    for response in (missing, wrong):
        assert response.headers["content-type"] == "application/problem+json"
    assert 'http_requests_total{code="404",method="GET",route="unmatched"} 1.0' in series
    assert "/nothing/here" not in series


async def test_a_path_cannot_forge_log_lines(serve, caplog):
    caplog.set_level(logging.INFO, "app.access")
    async with serve() as running:
        await running.client.get("/x%0AERROR forged%1B[31m")
    assert "/x%0AERROR%20forged%1B%5B31m 404" in caplog.text


async def test_a_bug_returns_500_and_logs_its_traceback_with_the_request_id(
    serve, monkeypatch, caplog
):
    async with serve() as running:
        deployment = running.state["deployments"]["classify"]
        monkeypatch.setattr(type(deployment), "reason_unready", property(lambda self: 1 / 0))
        response = await running.client.get("/readyz", headers={"X-Request-Id": "find-me"})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "division" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.request_id == "find-me"
    assert record.exc_info[0] is ZeroDivisionError


def line_of(caplog, request_id: str):
    """The log line of a request."""
    records = [r for r in caplog.records if r.name == "app.access" and r.levelno == logging.INFO]
    (record,) = [r for r in records if r.request_id == request_id]
    return record


async def test_a_log_line_has_route_status_stages_and_batch_size(serve, picture, caplog):
    caplog.set_level(logging.INFO, "app.access")
    async with serve() as running:
        await running.client.post("/classify", content=picture(), headers={"X-Request-Id": "a"})
        await running.client.get("/models/nothing", headers={"X-Request-Id": "b"})
    image, other = line_of(caplog, "a"), line_of(caplog, "b")
    assert (image.method, image.route, image.status) == ("POST", "/classify", 200)
    assert image.batch_size == 1
    stages = {"read", "decode", "queue", "stage_in", "compute", "postprocess", "encode"}
    assert set(image.stages_ms) == stages
    assert image.stages_ms["compute"] == 2.0
    assert not hasattr(image, "code")
    assert (other.route, other.status, other.code) == ("/models/{name}", 404, "not_found")
    assert not hasattr(other, "cause")
    assert not hasattr(other, "stages_ms")


async def test_the_log_line_of_a_failed_probe_has_the_cause(serve, caplog):
    caplog.set_level(logging.INFO, "app.access")
    async with serve(lambda engine: engine.load_gate.clear(), ready=False) as running:
        response = await running.client.get("/readyz", headers={"X-Request-Id": "early"})
        for engine in running.engines.values():
            engine.load_gate.set()
        await running.until_ready()
    line = line_of(caplog, "early")
    assert line.status == 503
    assert line.cause == "; ".join(response.json()["reasons"]) != ""


async def test_the_log_line_of_a_refusal_has_the_cause(serve, picture, caplog):
    caplog.set_level(logging.INFO, "app.access")
    async with serve(ready=False, prepare=lambda engine: engine.load_gate.clear()) as running:
        for name, path in (("a", "/classify"), ("b", "/readyz")):
            headers = {"X-Request-Id": name}
            method = "POST" if name == "a" else "GET"
            response = await running.client.request(method, path, headers=headers)
            assert response.status_code == 503
    assert line_of(caplog, "a").code == "not_ready"
    assert "shapes-vit is " in line_of(caplog, "a").cause
    assert "shapes-vit is " in line_of(caplog, "b").cause


async def test_the_log_line_of_a_missed_deadline_has_the_stage_of_the_image(serve, picture, caplog):
    caplog.set_level(logging.INFO, "app.access")
    async with serve() as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        headers = {"X-Request-Id": "late", "X-Request-Timeout-Ms": "300"}
        response = await running.client.post("/classify", content=picture(), headers=headers)
        engine.run_gate.set()
    assert response.status_code == 504
    line = line_of(caplog, "late")
    assert (line.code, line.place) == ("deadline_exceeded", "compute")
    assert "0.3 s" in line.cause
    assert line.stages_ms["decode"] >= 0


class Refusing:
    """An app that refuses each request with a delay and would keep its body alive."""

    def __init__(self, delay_s):
        self.delay_s = delay_s
        self.body = None

    async def __call__(self, scope, receive, send):
        body = BytesIO(b"photo")
        self.body = ref(body)
        error = Overloaded("full", retry_after_s=1.0)
        error.delay_s = self.delay_s
        raise error


@pytest.fixture
def refused():
    """A function that sends a request to a refusing app, and the messages of its response."""
    app, sent, metrics = Refusing(0.1), [], Metrics()

    async def send(message):
        sent.append((message["type"], app.body()))

    async def request(client=None):
        scope = {"type": "http", "method": "POST", "path": "/classify", "headers": []}
        if client is not None:
            scope[CLIENT] = client
        await RequestMiddleware(app, metrics, Shutdown(0, 0))(scope, None, send)

    request.app, request.sent = app, sent
    return request


RESPONSE = [("http.response.start", None), ("http.response.body", None)]  # and the body is freed


async def test_a_refusal_waits_for_its_delay_without_the_memory_of_its_body(refused, caplog):
    caplog.set_level(logging.INFO, "app.access")
    start = time.monotonic()
    await refused()
    assert time.monotonic() - start >= 0.1
    assert refused.sent == RESPONSE
    (line,) = caplog.records
    assert (line.status, line.code, line.delay_ms) == (503, "overloaded", 100)


async def test_a_refusal_that_waits_is_sent_when_the_server_ends_the_request(refused):
    refused.app.delay_s = 1000.0
    task = asyncio.ensure_future(refused())
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert refused.sent == RESPONSE


async def test_a_client_that_disconnects_while_its_refusal_waits_is_a_disconnect(refused, caplog):
    caplog.set_level(logging.INFO, "app.access")
    client = Client()
    client.on_disconnect()
    await refused(client)
    assert refused.sent == []
    assert [line.status for line in caplog.records] == [499]


async def test_a_client_that_disconnects_is_counted_and_leaves_the_queue(serve, picture):
    async with serve(cores=1) as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        first = asyncio.create_task(running.client.post("/classify", content=picture()))
        await asyncio.to_thread(engine.entered.wait, 30)
        gone = asyncio.Event()
        disconnecting = asyncio.create_task(post_and_disconnect(running, picture(), gone))
        await running.until_series('queue_depth{model="shapes-vit"} 1.0')
        gone.set()
        await disconnecting
        series = await running.series()
        engine.run_gate.set()
        assert (await first).status_code == 200
    assert 'queue_depth{model="shapes-vit"} 0.0' in series
    assert 'cancelled_total{model="shapes-vit",where="queue"} 1.0' in series
    assert 'http_requests_total{code="499",method="POST",route="/classify"} 1.0' in series
    assert engine.batches == [1]


async def test_the_image_of_a_client_that_disconnects_during_the_run_is_not_encoded(
    serve, picture, monkeypatch
):
    encoded, encode = [], Job.encode

    def recorded(job: Job) -> None:
        encode(job)
        encoded.append(job.body)

    monkeypatch.setattr(Job, "encode", recorded)
    async with serve(cores=1) as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        gone = asyncio.Event()
        disconnecting = asyncio.create_task(post_and_disconnect(running, picture(), gone))
        await asyncio.to_thread(engine.entered.wait, 30)
        gone.set()
        await disconnecting
        engine.run_gate.set()
        response = await running.client.post("/classify", content=picture())
    assert encoded == [response.content]
    assert engine.batches == [1, 1]


async def test_a_client_that_disconnects_during_the_upload_is_counted(serve):
    async with serve() as running:
        gone = asyncio.Event()
        gone.set()
        await post_and_disconnect(running, b"half an", gone, more_body=True)
        series = await running.series()
    assert 'images_total{model="shapes-vit",outcome="client_gone"} 1.0' in series


async def post_and_disconnect(running, body: bytes, gone: asyncio.Event, more_body=False) -> None:
    """Send a request directly to the app, and disconnect when `gone` is set."""
    messages = [{"type": "http.request", "body": body, "more_body": more_body}]

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("a response after the disconnect")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/classify",
        "raw_path": b"/classify",
        "query_string": b"",
        "headers": [],
        "server": ("test", 80),
        "client": ("test", 1),
        "scheme": "http",
    }
    transport = running.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app(scope, receive, send)


async def test_a_long_path_is_cut_in_the_log_and_in_the_error(serve, caplog):
    caplog.set_level(logging.INFO, logger="app.access")
    async with serve() as running:
        response = await running.client.get("/" + "x" * 5000)
    assert response.status_code == 404
    assert len(response.json()["detail"]) < 300
    assert max(len(record.getMessage()) for record in caplog.records) < 300
