import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.serving.arrivals import Phase, arrivals
from bench.serving.generator import run
from bench.serving.http_requests import raw_request
from bench.serving.records import LOST, Record

PROBLEM = {"code": "overloaded", "retry_after_ms": 1200}
SHORT = [{"rate": 50, "seconds": 0.1, "even": True}]


class Handler(BaseHTTPRequestHandler):
    """Refuses `refuse`, closes the connection on `gone`, delays `held`, accepts the rest."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"gone":
            self.close_connection = True
            return
        if body == b"held":
            self.server.released.wait(10)
        refused = body == b"refuse"
        response = json.dumps(PROBLEM if refused else {"label": 1}).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Type", "application/problem+json" if refused else "x/y")
        if refused:
            self.send_header("Retry-After", "2")
        self.send_header("Content-Length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *arguments):
        return


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def run_job(server, tmp_path, body, phases, connections=50):
    file = tmp_path / "request.http"
    file.write_bytes(raw_request("/", body))
    options = {"phases": phases, "connections": connections, "seed": 0}
    events = []
    request = {"do": "phases", "port": server.server_address[1], "requests": [str(file)], **options}
    results = run(request, lambda event, **more: events.append((event, more["number"])))
    columns = results.pop("records").values()
    return [Record(*row) for row in zip(*columns, strict=True)], results, events


def test_phases_follow_each_other_and_even_ones_have_equal_gaps():
    times = list(arrivals([Phase(2, 1.0, even=True), Phase(100, 2.0), Phase(1, 2.0, even=True)], 0))
    assert [at for at, phase in times if phase == 0] == [0.0, 0.5]
    assert all(1 <= at < 3 for at, phase in times if phase == 1)
    assert [at for at, phase in times if phase == 2] == [3.0, 4.0]
    assert times == sorted(times)


def test_every_response_has_a_record_with_its_times(server, tmp_path):
    phases = [{"rate": 50, "seconds": 0.1, "even": True}, {"rate": 100, "seconds": 0.1}]
    records, results, events = run_job(server, tmp_path, b"good", phases)
    assert events == [("phase", 0), ("phase", 1)]
    assert (results["unsent"], results["unanswered"]) == (0, 0)
    assert len(records) > 5
    assert all(one.due <= one.sent <= one.ended for one in records)
    assert {(one.status, one.problem) for one in records} == {(200, False)}


def test_the_record_of_a_refusal_has_its_retry_times(server, tmp_path):
    records, _, _ = run_job(
        server, tmp_path, b"refuse", [{"rate": 50, "seconds": 0.1, "even": True}]
    )
    (fields,) = {one[3:] for one in records}
    assert fields == (503, "overloaded", True, 2.0, 1200.0)


def test_a_lost_connection_has_a_record(server, tmp_path):
    records, _, _ = run_job(server, tmp_path, b"gone", SHORT)
    assert {one.status for one in records} == {LOST}
    assert len(records) == 5


def test_a_request_without_a_free_connection_is_counted_and_not_delayed(server, tmp_path):
    threading.Timer(0.3, server.released.set).start()
    phases = [{"rate": 50, "seconds": 0.2, "even": True}]
    records, results, _ = run_job(server, tmp_path, b"held", phases, connections=4)
    assert (len(records), results["unsent"]) == (4, 6)
    assert max(one.sent for one in records) < min(one.ended for one in records)
