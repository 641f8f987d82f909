import itertools
import threading
import time
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.common.children import child
from bench.serving.arrivals import poisson
from bench.serving.generator import run
from bench.serving.http_requests import multipart_request, raw_request
from bench.serving.servers import untuned


class Handler(BaseHTTPRequestHandler):
    """Echoes bodies, except: `bad` gives 500, `empty` an empty body, `gone` closes the connection,
    and `last` closes it after the response, with the header.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"gone":
            self.close_connection = True
            return
        self.send_response(500 if body == b"bad" else 200)
        response = b"" if body == b"empty" else body
        self.send_header("content-length", str(len(response)))
        if body == b"last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *arguments):
        return


@pytest.fixture
def port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def requests(tmp_path, *bodies):
    files = [tmp_path / f"{number}.http" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(raw_request("/", body))
    return [str(file) for file in files]


def run_job(port, files, **job):
    events = []
    request = {"port": port, "requests": files, "warm_s": 0.02, "seconds": 0.2, **job}
    return run(request, lambda event: events.append(event)), events


def test_poisson_arrivals_have_the_rate_and_depend_on_the_seed():
    times = list(poisson(200.0, 50.0, seed=3))
    assert times == sorted(times) == list(poisson(200.0, 50.0, seed=3))
    assert times != list(poisson(200.0, 50.0, seed=4))
    assert 0 < times[0] < times[-1] < 50
    assert len(times) == pytest.approx(10_000, rel=0.05)


def test_gaps_between_poisson_arrivals_have_their_mean_as_deviation():
    times = list(poisson(100.0, 100.0, seed=0))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)


def test_a_stop_file_ends_a_closed_loop(port, tmp_path):
    (file,) = requests(tmp_path, b"one")
    stop_file = tmp_path / "stop"

    def emit(event):
        if event == "begin":
            threading.Timer(0.1, stop_file.touch).start()

    job = {"do": "closed", "concurrency": 2, "warm_s": 0.02, "seconds": 60.0}
    began = time.monotonic()
    results = run({"port": port, "requests": [file], "stop_file": str(stop_file), **job}, emit)
    assert 0.1 < time.monotonic() - began < 10
    assert results["latencies_ms"]
    assert not results["errors"]


def test_a_closed_loop_counts_responses_and_keeps_one_for_each_request(port, tmp_path):
    large = b"x" * 5_000_000  # more than a socket buffers
    files = requests(tmp_path, b"one", large)
    found, events = run_job(port, files, do="closed", concurrency=3, seconds=1.0)
    assert events == ["begin", "end"]
    assert found["errors"] == []
    assert len(found["latencies_ms"]) > 2
    assert {b64decode(body) for body in found["bodies"].values()} <= {b"one", large}


@pytest.mark.parametrize(
    ("body", "error"), [(b"bad", "500"), (b"empty", "200"), (b"gone", "closed")]
)
def test_a_failed_request_is_an_error_and_the_loop_goes_on(port, tmp_path, body, error):
    found, _ = run_job(port, requests(tmp_path, body, b"one"), do="closed", concurrency=2)
    assert found["errors"]
    assert all(error in one for one in found["errors"])
    assert found["latencies_ms"]


def test_after_an_announced_close_the_next_request_uses_a_new_connection(port, tmp_path):
    found, _ = run_job(port, requests(tmp_path, b"last"), do="closed", concurrency=2)
    assert found["errors"] == []
    assert len(found["latencies_ms"]) > 2


def test_an_open_loop_sends_at_its_own_times(port, tmp_path):
    job = {"do": "open", "rate": 100.0, "seed": 1}
    found, events = run_job(port, requests(tmp_path, b"one"), **job)
    expected = [at for at in poisson(100.0, 0.22, seed=1) if at >= 0.02]
    assert events == ["begin", "end"]
    assert abs(len(found["latencies_ms"]) - len(expected)) <= 1  # one may be due at the start


def test_a_generator_process_returns_results_and_errors(port, tmp_path):
    with child("bench.serving.generator", env=untuned()) as generator:
        files = requests(tmp_path, b"one")
        job = {"port": port, "requests": files, "warm_s": 0.02, "seconds": 0.1}
        generator.send(do="closed", concurrency=1, **job)
        generator.receive("begin")
        generator.receive("end")
        assert generator.receive("done")["latencies_ms"]
        generator.send(do="closed", concurrency=1, **{**job, "requests": ["nowhere"]})
        with pytest.raises(RuntimeError, match="nowhere"):
            generator.receive("begin")


def test_a_process_that_ends_is_an_error():
    package = "bench.serving"  # it has no __main__
    with child(package, env=untuned()) as process, pytest.raises(RuntimeError, match="has ended"):
        process.receive("ready")


def test_a_form_contains_the_whole_photograph():
    request = multipart_request("/classify", b"\xff\xd8photo")
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"\r\n\r\n\xff\xd8photo\r\n--" in body
