"""What is sent on purpose to break the service, over raw sockets, at a real process."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO

import httpx
import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group(name="timing")
MIB = 2**20
MOST_CONNECTIONS = 40


@pytest.fixture(scope="module")
def service(launch):
    flags = {
        "--segmenter": "none",
        "--max-body-bytes": 4 * MIB,
        "--max-body-bytes-in-flight": 5 * MIB,
        "--max-header-bytes": 4096,
        "--header-timeout-s": 0.5,
        "--upload-timeout-s": 1,
        "--max-connections": MOST_CONNECTIONS,
    }
    with launch(*(each for flag in flags.items() for each in flag)) as service:
        yield service


@pytest.fixture(autouse=True)
def _as_well_as_before(service):
    """The service answers after each test, has nothing left of it, and nothing to complain of."""
    yield
    with httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.post("/classify", content=png()).status_code == 200
        assert series(client, "http_requests_in_flight") == 1  # this one
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
    """A socket to the service, which does not wait for ever."""
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=20) as connected:
        yield connected


def head(*lines: str, method: str = "POST", path: str = "/classify", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


def until(is_so: Callable[[], bool]) -> None:
    """Ask again and again, for ten seconds."""
    ends = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


class Answers:
    """What comes back over a socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._file = connected.makefile("rb")

    def next(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of the next answer; headers without content of a HEAD."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def refusal(self) -> tuple[int, str]:
        """Status and code of the next answer, a problem that names its request."""
        status, headers, content = self.next()
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(content)
        assert problem["request_id"] == headers["x-request-id"]
        assert problem["status"] == status
        return status, problem["code"]

    def ended(self) -> bool:
        """Whether nothing more comes, ever."""
        return self._file.read() == b""


def exchange(service, *sent: bytes, pause_s: float = 0.0) -> tuple[int, str]:
    """Send some pieces; the refusal that ends the connection."""
    with connection(service) as connected:
        for piece in sent:
            connected.sendall(piece)
            time.sleep(pause_s)
        answers = Answers(connected)
        refused = answers.refusal()
        assert answers.ended()
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
def test_what_is_no_good_request_is_refused_and_its_connection_ends(service, sent, refused):
    assert exchange(service, sent) == refused


def test_a_refusal_below_the_app_is_counted_and_logged_under_its_id(service):
    labels = '{code="431",method="GET",route="unmatched"}'
    with httpx.Client(base_url=service.url) as client:
        before = series(client, "http_requests_total", labels)
        answer = client.get("/here?secret=1", headers={"X-Request-Id": "find-me", "X": "x" * 5000})
        assert answer.status_code == 431
        assert answer.json()["request_id"] == "find-me"
        assert answer.json()["limits"] == {"max_header_bytes": 4096, "max_headers": 100}
        assert series(client, "http_requests_total", labels) == before + 1
    until(lambda: "find-me" in service.log.read_text())  # lines are written together
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


def test_bytes_beyond_the_declared_length_are_refused_after_the_answer(service):
    with connection(service) as connected:
        connected.sendall(head(f"Content-Length: {len(png()) - 30}") + png())
        answers = Answers(connected)
        assert answers.refusal() == (422, "invalid_image")
        assert answers.refusal() == (400, "malformed_request")
        assert answers.ended()


def test_a_body_shorter_than_declared_is_a_caller_who_left(service):
    labels = '{model="shapes-vit",outcome="client_gone"}'
    with httpx.Client(base_url=service.url) as client:
        before = series(client, "images_total", labels)
        with connection(service) as connected:
            connected.sendall(head("Content-Length: 1000") + png())
            connected.shutdown(socket.SHUT_WR)
            assert connected.recv(1) == b""
        assert series(client, "images_total", labels) == before + 1


def test_pipelined_requests_of_all_kinds_are_answered_in_order(service):
    with connection(service) as connected:
        good = head(f"Content-Length: {len(png())}") + png()
        probe, nothing = (head(method="GET", path=path) for path in ("/livez", "/nothing"))
        connected.sendall(good + probe + nothing + good + b"\0")
        answers = Answers(connected)
        assert [answers.next()[0] for _ in range(5)] == [200, 200, 404, 200, 400]
        assert answers.ended()


def test_a_flood_of_pipelined_requests_is_cut(service):
    with connection(service) as connected:
        connected.sendall(head(method="GET", path="/livez") * 2000)
        answers = Answers(connected)
        statuses = []
        while not statuses or statuses[-1] == 200:
            statuses.append(answers.next()[0])
        assert statuses[-1] == 400
        assert len(statuses) < 2000


@pytest.mark.parametrize("wish", ["websocket", "h2c", "nonsense"])
def test_nothing_is_upgraded(service, wish):
    with connection(service) as connected:
        lines = ["Connection: Upgrade", f"Upgrade: {wish}", "Sec-WebSocket-Key: AAAA"]
        connected.sendall(head(*lines, f"Content-Length: {len(png())}") + png())
        answers = Answers(connected)
        assert answers.next()[0] == 200
        connected.sendall(head(*lines, method="GET", path="/livez"))
        assert answers.next()[0] == 200


def test_http_1_0_and_head_are_answered(service):
    with connection(service) as connected:
        connected.sendall(head(method="GET", path="/livez", version="1.0"))
        answers = Answers(connected)
        status, headers, _ = answers.next()
        assert (status, headers["connection"]) == (200, "close")
        assert answers.ended()
    with connection(service) as connected:
        connected.sendall(head("Connection: close", method="HEAD", path="/classify"))
        told = connected.makefile("rb").read()
        assert told.startswith(b"HTTP/1.1 405 ")
        assert told.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/nothing", "/classify?top_k=0"])
def test_an_early_refusal_keeps_the_connection_if_little_is_to_come(service, path):
    with connection(service) as connected:
        answers = Answers(connected)
        connected.sendall(head(f"Content-Length: {MIB}", path=path))
        status, headers, _ = answers.next()
        assert status in (404, 422)
        assert "connection" not in headers
        connected.sendall(bytes(MIB) + head(method="GET", path="/livez"))
        assert answers.next()[0] == 200


def test_an_early_refusal_is_read_by_one_who_goes_on_writing(service):
    with connection(service) as connected:
        connected.sendall(head(f"Content-Length: {400 * MIB}"))
        time.sleep(0.1)  # it is answered meanwhile
        with pytest.raises(OSError, match=r"(?i)reset|broken pipe"):
            connected.sendall(bytes(100 * MIB))
        answers = Answers(connected)
        assert answers.refusal() == (413, "payload_too_large")


def test_more_bytes_than_may_be_in_flight_are_refused_and_given_back(service):
    with connection(service) as first, connection(service) as second:
        first.sendall(head(f"Content-Length: {3 * MIB}") + png())
        while True:  # until the first is held
            second.sendall(head(f"Content-Length: {3 * MIB}", "Expect: 100-continue"))
            told = second.recv(2**16)
            if told.startswith(b"HTTP/1.1 503 "):
                break
            second.sendall(bytes(3 * MIB))
            Answers(second).next()
        while more := second.recv(2**16):  # the body may come behind the headers
            told += more
        assert b'"overloaded"' in told
        assert b"\r\nRetry-After: " in told or b"\r\nretry-after: " in told
        assert Answers(first).refusal() == (408, "upload_too_slow")
    with httpx.Client(base_url=service.url) as client:
        labels = '{model="shapes-vit",reason="bytes_in_flight"}'
        assert series(client, "rejections_total", labels) >= 1
    assert exchange(service, head("Content-Length: 4000000")) == (408, "upload_too_slow")


def test_connections_beyond_the_limit_are_told_so(service):
    with ExitStack() as stack:
        statuses = []
        while not statuses or statuses[-1] == 200:
            answers = Answers(connected := stack.enter_context(connection(service)))
            with suppress(ConnectionError):  # it was told before it asked
                connected.sendall(head(method="GET", path="/livez"))
            status, headers, content = answers.next()
            statuses.append(status)
        assert (status, json.loads(content)["code"]) == (503, "overloaded")
        assert headers["retry-after"] == "1"
        assert answers.ended()
    assert MOST_CONNECTIONS - 5 < len(statuses) <= MOST_CONNECTIONS + 1  # some linger
    until(lambda: _probe(service) == 200)


def _probe(service) -> int:
    with connection(service) as connected:
        connected.sendall(head(method="GET", path="/livez"))
        return Answers(connected).next()[0]


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
def test_bodies_that_are_costly_to_parse_are_refused(service, content_type, body):
    with httpx.Client(base_url=service.url, timeout=30) as client:
        answer = client.post("/classify", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_compressed_body_is_refused_in_words(service):
    with httpx.Client(base_url=service.url) as client:
        answer = client.post("/classify", content=png(), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert "gzip" in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "identity"
