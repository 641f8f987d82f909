import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.serving.arrivals import Phase, arrivals
from bench.serving.generator import run
from bench.serving.records import LOST, Record
from bench.serving.servers import raw

PROBLEM = {"code": "overloaded", "retry_after_ms": 1200}


class Answers(BaseHTTPRequestHandler):
    """Refuses `refuse`, leaves on `gone`, holds `held` until it may go, and is glad of the rest."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"gone":
            self.close_connection = True
            return
        if body == b"held":
            self.server.go.wait(10)
        refused = body == b"refuse"
        answer = json.dumps(PROBLEM if refused else {"label": 1}).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Type", "application/problem+json" if refused else "x/y")
        self.send_header("Retry-After" if refused else "Server-Timing", "2" if refused else TIMING)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        return


TIMING = "read;dur=0.1, queue;dur=12.50, compute;dur=3"


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.go = threading.Event()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def asked(server, tmp_path, body, phases, connections=50):
    file = tmp_path / "request.http"
    file.write_bytes(raw("/", body))
    how = {"phases": phases, "connections": connections, "seed": 0}
    said = []
    request = {"do": "phases", "port": server.server_address[1], "requests": [str(file)], **how}
    found = run(request, lambda event, **more: said.append((event, more["number"])))
    columns = found.pop("records").values()
    return [Record(*row) for row in zip(*columns, strict=True)], found, said


def test_phases_follow_each_other_even_ones_at_equal_distances():
    times = list(arrivals([Phase(2, 1.0, even=True), Phase(100, 2.0), Phase(1, 2.0, even=True)], 0))
    assert [at for at, phase in times if phase == 0] == [0.0, 0.5]
    assert all(1 <= at < 3 for at, phase in times if phase == 1)
    assert [at for at, phase in times if phase == 2] == [3.0, 4.0]
    assert times == sorted(times)


def test_every_answer_is_kept_with_its_times_and_what_it_says_of_its_wait(server, tmp_path):
    phases = [{"rate": 50, "seconds": 0.1, "even": True}, {"rate": 100, "seconds": 0.1}]
    records, found, said = asked(server, tmp_path, b"fine", phases)
    assert said == [("phase", 0), ("phase", 1)]
    assert (found["unsent"], found["unanswered"]) == (0, 0)
    assert len(records) > 5
    assert all(one.due <= one.sent <= one.ended for one in records)
    assert {(one.status, one.queue_ms, one.problem) for one in records} == {(200, 12.5, False)}


def test_a_refusal_is_kept_with_when_to_come_again(server, tmp_path):
    records, _, _ = asked(server, tmp_path, b"refuse", [{"rate": 50, "seconds": 0.1, "even": True}])
    (kept,) = {one[3:8] for one in records}
    assert kept == (503, "overloaded", True, 2.0, 1200.0)
    assert all(math.isnan(one.queue_ms) for one in records)


def test_a_lost_connection_is_kept_as_one(server, tmp_path):
    records, _, _ = asked(server, tmp_path, b"gone", [{"rate": 50, "seconds": 0.1, "even": True}])
    assert {one.status for one in records} == {LOST}
    assert len(records) == 5


def test_nothing_is_waited_for_and_what_finds_no_connection_is_counted(server, tmp_path):
    threading.Timer(0.3, server.go.set).start()
    phases = [{"rate": 50, "seconds": 0.2, "even": True}]
    records, found, _ = asked(server, tmp_path, b"held", phases, connections=4)
    assert (len(records), found["unsent"]) == (4, 6)
    assert max(one.sent for one in records) < min(one.ended for one in records)
