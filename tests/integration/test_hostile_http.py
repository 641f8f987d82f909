"""Hostile HTTP over raw sockets, sent to the real process."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from io import BytesIO

import httpx
import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group(name="timing")
MIB = 2**20
MOST_CONNECTIONS = 40


@pytest.fixture(scope="module")
def service(launch, small):
    flags = {
        "--max-body-bytes": 4 * MIB,
        "--max-body-bytes-in-flight": 5 * MIB,
        "--max-header-bytes": 4096,
        "--header-timeout-s": 0.5,
        "--upload-timeout-s": 1,
        "--max-connections": MOST_CONNECTIONS,
    }
    with launch(*small, *(each for flag in flags.items() for each in flag)) as service:
        yield service


@pytest.fixture(autouse=True)
def _healthy_afterwards(service):
    """After each test the service responds, has no request in flight, and logged no warning."""
    yield
    with httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.post("/classify", content=png()).status_code == 200
        assert series(client, "http_requests_in_flight") == 1  # the request for /metrics
    for line in service.log_lines():
        assert json.loads(line)["level"] == "info", line


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def series(client: httpx.Client, name: str, labels: str = "") -> float:
    """The value of a series; 0 if there is none."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"patchserve_{name}{labels} "):
            return float(line.split()[-1])
    return 0.0


@contextmanager
def connection(service):
    """A socket to the service, with a timeout."""
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=20) as connected:
        yield connected


def head(*lines: str, method: str = "POST", path: str = "/classify", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


def until(condition: Callable[[], bool]) -> None:
    """Poll a condition for at most ten seconds."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


class Responses:
    """The responses on a socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._file = connected.makefile("rb")

    def next(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next response."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def refusal(self) -> tuple[int, str]:
        """Status and code of the next response, which must be a problem with its request id."""
        status, headers, content = self.next()
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(content)
        assert problem["request_id"] == headers["x-request-id"]
        assert problem["status"] == status
        return status, problem["code"]

    def ended(self) -> bool:
        """Whether the service closed the connection without another response."""
        return self._file.read() == b""


def exchange(service, *sent: bytes, pause_s: float = 0.0) -> tuple[int, str]:
    """Send some pieces, and return the refusal that ends the connection."""
    with connection(service) as connected:
        for piece in sent:
            connected.sendall(piece)
            time.sleep(pause_s)
        responses = Responses(connected)
        refused = responses.refusal()
        assert responses.ended()
    return refused


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", (400, "malformed_request")),
        (b"HELO example.org\r\n", (400, "malformed_request")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, "malformed_request")),
        (head("Content-Length: 3", "Transfer-Encoding: chunked"), (400, "malformed_request")),
        (head("Content-Length: 3", "Content-Length: 4"), (400, "malformed_request")),
        (head("Content-Length: -1"), (400, "malformed_request")),
        (head("Content-Length: " + "9" * 30), (400, "malformed_request")),
        (head("Content-Length: " + "9" * 19), (413, "payload_too_large")),
        (head("Content-Length: 5000000", "Expect: 100-continue"), (413, "payload_too_large")),
        (head("Transfer-Encoding: gzip, chunked"), (400, "malformed_request")),
        (head("Transfer-Encoding: chunked") + b"xyz\r\n", (400, "malformed_request")),
        (
            head("Transfer-Encoding: chunked") + b"0\r\n" + b"T: t\r\n" * 900,
            (431, "headers_too_large"),
        ),
        (head("X: " + "x" * 5000), (431, "headers_too_large")),
        (head(path="/" + "x" * 5000), (431, "headers_too_large")),
        (head(*["X: y"] * 100), (431, "headers_too_large")),
        (head("X: y", " folded"), (400, "malformed_request")),
        (head("X: a\0b"), (400, "malformed_request")),
    ],
    ids=lambda value: repr(value[:70]) if isinstance(value, bytes) else None,
)
def test_a_malformed_request_is_refused_and_its_connection_ends(service, sent, refused):
    assert exchange(service, sent) == refused


def test_a_refusal_below_the_app_is_counted_and_logged_with_its_id(service):
    labels = '{code="431",method="GET",route="unmatched"}'
    with httpx.Client(base_url=service.url) as client:
        before = series(client, "http_requests_total", labels)
        response = client.get(
            "/here?secret=1", headers={"X-Request-Id": "find-me", "X": "x" * 5000}
        )
        assert response.status_code == 431
        assert response.json()["request_id"] == "find-me"
        assert response.json()["limits"] == {"max_header_bytes": 4096, "max_headers": 100}
        assert series(client, "http_requests_total", labels) == before + 1
    until(lambda: "find-me" in service.log.read_text())  # a line follows the response
    (line,) = [line for line in service.log_lines() if "find-me" in line]
    assert "GET /here 431" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET /li", b"v"),
        (b"\r\n", b"\r\n"),
        (head("Content-Length: 9")[:-2], b"X: y\r\n"),
    ],
    ids=["request line", "empty lines", "headers"],
)
def test_headers_that_take_too_long_are_refused(service, begun, more):
    assert exchange(service, begun, *[more] * 4, pause_s=0.05) == (408, "upload_too_slow")


def test_a_connection_that_says_nothing_is_closed_without_a_word(service):
    with connection(service) as connected:
        assert connected.recv(1) == b""


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_takes_too_long_is_refused(service, length):
    sent = [b"1\r\nx\r\n"] * 4
    assert exchange(service, head(length), *sent, pause_s=0.05) == (408, "upload_too_slow")


def test_bytes_beyond_the_declared_length_are_refused_after_the_response(service):
    with connection(service) as connected:
        connected.sendall(head(f"Content-Length: {len(png()) - 30}") + png())
        responses = Responses(connected)
        assert responses.refusal() == (422, "invalid_image")
        assert responses.refusal() == (400, "malformed_request")
        assert responses.ended()


def test_a_body_shorter_than_declared_counts_as_a_disconnect(service):
    labels = '{model="tiny",outcome="client_gone"}'
    with httpx.Client(base_url=service.url) as client:
        before = series(client, "images_total", labels)
        with connection(service) as connected:
            connected.sendall(head("Content-Length: 1000") + png())
            connected.shutdown(socket.SHUT_WR)
            assert connected.recv(1) == b""
        assert series(client, "images_total", labels) == before + 1


def test_pipelined_requests_of_all_kinds_get_responses_in_order(service):
    with connection(service) as connected:
        good = head(f"Content-Length: {len(png())}") + png()
        probe, nothing = (head(method="GET", path=path) for path in ("/livez", "/nothing"))
        connected.sendall(good + probe + nothing + good + b"\0")
        responses = Responses(connected)
        assert [responses.next()[0] for _ in range(5)] == [200, 200, 404, 200, 400]
        assert responses.ended()


def test_a_flood_of_pipelined_requests_ends_the_connection(service):
    with connection(service) as connected:
        connected.sendall(head(method="GET", path="/livez") * 2000)
        responses = Responses(connected)
        statuses = []
        while not statuses or statuses[-1] == 200:
            statuses.append(responses.next()[0])
        assert statuses[-1] == 400
        assert len(statuses) < 2000


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "nonsense"])
def test_nothing_is_upgraded(service, protocol):
    with connection(service) as connected:
        lines = ["Connection: Upgrade", f"Upgrade: {protocol}", "Sec-WebSocket-Key: AAAA"]
        connected.sendall(head(*lines, f"Content-Length: {len(png())}") + png())
        responses = Responses(connected)
        assert responses.next()[0] == 200
        connected.sendall(head(*lines, method="GET", path="/livez"))
        assert responses.next()[0] == 200


def test_http_1_0_and_head_get_responses(service):
    with connection(service) as connected:
        connected.sendall(head(method="GET", path="/livez", version="1.0"))
        responses = Responses(connected)
        status, headers, _ = responses.next()
        assert (status, headers["connection"]) == (200, "close")
        assert responses.ended()
    with connection(service) as connected:
        connected.sendall(head("Connection: close", method="HEAD", path="/classify"))
        response = connected.makefile("rb").read()
        assert response.startswith(b"HTTP/1.1 405 ")
        assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/nothing", "/classify?top_k=0"])
def test_an_early_refusal_keeps_the_connection_if_the_rest_of_the_body_is_small(service, path):
    with connection(service) as connected:
        responses = Responses(connected)
        connected.sendall(head(f"Content-Length: {MIB}", path=path))
        status, headers, _ = responses.next()
        assert status in (404, 422)
        assert "connection" not in headers
        connected.sendall(bytes(MIB) + head(method="GET", path="/livez"))
        assert responses.next()[0] == 200


def test_a_client_that_goes_on_sending_can_read_an_early_refusal(service):
    with connection(service) as connected:
        connected.sendall(head(f"Content-Length: {400 * MIB}"))
        connected.sendall(bytes(100 * MIB))  # a reset would raise
        responses = Responses(connected)
        assert responses.refusal() == (413, "payload_too_large")


def test_a_chunked_body_above_the_limit_is_refused_before_its_end(service):
    mebibyte = b"%x\r\n%b\r\n" % (MIB, bytes(MIB))
    sent = exchange(service, head("Transfer-Encoding: chunked"), 4 * mebibyte, b"1\r\n0\r\n")
    assert sent == (413, "payload_too_large")


def test_bytes_in_flight_above_the_limit_are_refused_and_released(service):
    with connection(service) as first:
        first.sendall(head(f"Content-Length: {3 * MIB}") + bytes(2 * MIB))
        status = None
        while status != 503:  # until the first body is counted
            with connection(service) as second:
                second.sendall(head(f"Content-Length: {3 * MIB}") + bytes(3 * MIB))
                status, headers, content = Responses(second).next()
        assert json.loads(content)["code"] == "overloaded"
        assert "retry-after" in headers
        assert Responses(first).refusal() == (408, "upload_too_slow")
    with httpx.Client(base_url=service.url) as client:
        labels = '{model="tiny",reason="bytes_in_flight"}'
        assert series(client, "rejections_total", labels) >= 1
    assert exchange(service, head("Content-Length: 4000000")) == (408, "upload_too_slow")


def test_declared_bodies_that_do_not_arrive_leave_room_for_others(service):
    with ExitStack() as stack:
        for _ in range(13):
            idle = stack.enter_context(connection(service))
            idle.sendall(head(f"Content-Length: {4 * MIB}"))
        body = png()
        for _ in range(20):
            with connection(service) as honest:
                honest.sendall(head(f"Content-Length: {len(body)}") + body)
                assert Responses(honest).next()[0] == 200


def test_tiny_chunks_are_refused_while_probes_are_answered(service):
    chunks = b"1\r\nx\r\n" * 50_000
    with ExitStack() as stack:
        attackers = [stack.enter_context(connection(service)) for _ in range(16)]
        for attacker in attackers:
            attacker.sendall(head("Transfer-Encoding: chunked") + chunks)
            assert get(service, "/livez")[0] == 200
        for attacker in attackers:
            assert Responses(attacker).refusal() == (400, "malformed_request")


def test_busy_connections_above_the_limit_get_503_but_probes_are_served(service):
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            busy = stack.enter_context(connection(service))
            busy.sendall(head("Content-Length: 100"))
        until(lambda: get(service, "/models")[0] == 503)
        status, headers, content = get(service, "/models")
        assert (status, json.loads(content)["code"]) == (503, "overloaded")
        assert (headers["retry-after"], headers["connection"]) == ("1", "close")
        assert get(service, "/livez")[0] == 200
    until(lambda: get(service, "/models")[0] == 200)


def test_idle_connections_above_the_limit_give_way(service):
    with ExitStack() as stack:
        for _ in range(2 * MOST_CONNECTIONS):
            stack.enter_context(connection(service))
            assert get(service, "/livez")[0] == 200
        until(lambda: get(service, "/models")[0] == 200)


def get(service, path: str) -> tuple[int, dict[str, str], bytes]:
    with connection(service) as connected:
        connected.sendall(head(method="GET", path=path))
        return Responses(connected).next()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n" * (4 * MIB // 9 - 1)),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"a: b\r\n" * (4 * MIB // 7)),
        ("multipart/form-data; boundary=" + "b" * 200, b"--b\r\n"),
        ("multipart/form-data" + "; a=b" * 500, b"--b\r\n"),
        ("application/json", b"[" * (4 * MIB)),
        ("application/json", b'{"image":"","a":[' + b"0," * (2 * MIB - 20) + b"0]}"),
        ("application/json", b'{"image":"' + b"====" * (MIB - 20) + b'"}'),
    ],
    ids=["parts", "part headers", "boundary", "content type", "deep", "values", "base64"],
)
def test_bodies_that_are_expensive_to_parse_are_refused(service, content_type, body):
    with httpx.Client(base_url=service.url, timeout=30) as client:
        response = client.post("/classify", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


def test_the_refusal_of_a_compressed_body_names_the_encoding(service):
    with httpx.Client(base_url=service.url) as client:
        response = client.post("/classify", content=png(), headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert "gzip" in response.json()["detail"]
    assert response.headers["accept-encoding"] == "identity"
