"""Who gets in, and where: keys that nobody sees, and a port for the probes alone."""

import json
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
IN_ENVIRONMENT, IN_FILE = "key-of-the-environment-1", "key-of-the-file-2/+=~"
OPS = ("/livez", "/readyz", "/startupz", "/metrics")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def lines(service) -> list[dict]:
    return [json.loads(line) for line in service.log_lines()]


@pytest.fixture(scope="module")
def guarded(launch, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the shop\n{IN_FILE}\n")
    flags = ("--segmenter", "none", "--api-keys-file", file)
    with launch(*flags, PATCHSERVE_API_KEYS=IN_ENVIRONMENT) as service:
        yield service


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {IN_ENVIRONMENT}"},
        {"X-API-Key": IN_ENVIRONMENT},
        {"Authorization": f"Bearer {IN_FILE}"},
        {"X-API-Key": IN_FILE},
    ],
)
def test_a_key_of_the_environment_or_the_file_opens(guarded, headers):
    answer = httpx.post(f"{guarded.url}/classify", content=SCENE.read_bytes(), headers=headers)
    assert answer.status_code == 200


def test_without_a_key_a_large_body_is_refused_unread(guarded):
    """As curl asks for a large body: the headers, and the rest only if it is wanted."""
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 15000000\r\n"
    address = ("127.0.0.1", int(guarded.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer" in answer
    assert b'"code":"unauthorized"' in answer


def test_no_key_is_found_in_the_log_the_metrics_or_an_answer(guarded):
    strange = "a-key-of-somebody-else"
    with httpx.Client(base_url=guarded.url) as client:
        told = [
            client.post("/classify", headers={"X-API-Key": strange}),
            client.post("/classify", headers={"Authorization": f"Bearer {IN_FILE}"}),
            client.get("/nothing", headers={"X-API-Key": IN_ENVIRONMENT}),
            client.get("/models", headers={"X-API-Key": IN_ENVIRONMENT}),
            client.get("/metrics", headers={"X-API-Key": IN_ENVIRONMENT}),
            client.get("/openapi.json"),
        ]
    assert [answer.status_code for answer in told] == [401, 400, 404, 200, 200, 200]
    texts = [f"{answer.headers}{answer.text}" for answer in told]
    while len([line for line in lines(guarded) if line.get("route") == "/metrics"]) < 1:
        pass
    for secret in (IN_ENVIRONMENT, IN_FILE, strange):
        assert secret not in guarded.log.read_text()
        assert not any(secret in text for text in texts)


def test_an_unfit_key_is_a_start_up_error_that_does_not_show_it(refuse):
    ended = refuse(PATCHSERVE_API_KEYS=f"{IN_ENVIRONMENT},short-key")
    assert ended.returncode == 2
    assert "api_keys" in ended.stderr
    assert "short-key" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_open_service_beyond_this_machine_is_warned_of(launch, guarded):
    flags = ("--host", "0.0.0.0", "--segmenter", "none")  # noqa: S104  # that is the point
    with launch(*flags, ready=False) as service:
        service.until("/livez", 200)
    (warned,) = [line for line in lines(service) if line["level"] == "warning"]
    assert "no API keys are configured" in warned["message"]
    assert not [line for line in lines(guarded) if line["level"] == "warning"]


@pytest.mark.parametrize("workers", [1, 2])
def test_probes_and_metrics_have_a_port_of_their_own_and_leave_the_other(launch, workers):
    port = free_port()
    ops = f"http://127.0.0.1:{port}"
    flags = ("--ops-port", port, "--segmenter", "none", "--workers", workers)
    with launch(*flags, ready=False) as service, httpx.Client(timeout=60) as client:
        own = type(service)(ops, service.process, service.log)
        own.until("/readyz", 200)
        for path in OPS:
            assert client.get(ops + path).status_code == 200
            assert client.get(service.url + path).status_code == 404
        answer = client.post(f"{service.url}/classify", content=SCENE.read_bytes())
        assert answer.status_code == 200
        assert client.post(f"{ops}/classify").status_code == 404
        counted = 'http_requests_total{code="200",method="POST",route="/classify"} 1.0'
        while counted not in client.get(f"{ops}/metrics").text:
            pass
        if workers > 1:
            assert len(client.get(f"{ops}/readyz").json()["replicas"]) == 2
    assert service.process.returncode == 0


def test_the_probes_answer_while_the_other_port_is_full_and_while_it_drains(launch):
    port = free_port()
    ops = f"http://127.0.0.1:{port}"
    flags = ("--ops-port", port, "--segmenter", "none", "--max-connections", 50)
    with launch(*flags, ready=False) as service, ExitStack() as crowd:
        type(service)(ops, service.process, service.log).until("/readyz", 200)
        address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
        for _ in range(50):
            connection = crowd.enter_context(socket.create_connection(address))
            connection.sendall(b"POST /classify HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        while httpx.post(f"{service.url}/classify", content=b"x").status_code != 503:
            pass  # until all of the crowd have come in
        assert httpx.get(f"{ops}/readyz", timeout=10).status_code == 200
        os.kill(service.process.pid, signal.SIGTERM)
        while "shutdown requested" not in service.log.read_text():
            pass
        assert httpx.get(f"{ops}/livez", timeout=10).status_code == 200
        assert httpx.get(f"{ops}/readyz", timeout=10).json()["reasons"] == ["draining"]
        assert "patchserve_ready 0.0" in httpx.get(f"{ops}/metrics", timeout=10).text
        crowd.close()
        assert service.process.wait(60) == 0


def test_a_port_for_the_probes_that_is_taken_is_told_in_one_line(refuse):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = refuse("--port", 0, "--ops-port", taken.getsockname()[1])
    assert ended.returncode == 1
    assert ended.stderr.startswith("patchserve: cannot listen on 127.0.0.1:")
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def picky(launch):
    flags = ("--image-formats", "jpeg, webp", "--cors-origins", "https://shop.example")
    with launch("--segmenter", "none", *flags) as service:
        yield service


def test_a_format_that_is_off_is_refused_and_those_that_are_on_are_named(picky):
    answer = httpx.post(f"{picky.url}/classify", content=SCENE.read_bytes())
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image_format")
    assert "JPEG or WebP" in answer.json()["detail"]
    assert answer.headers["accept"] == "image/jpeg, image/webp"


def test_a_page_that_may_ask_can_read_the_refusal(picky):
    headers = {"Origin": "https://shop.example"}
    answer = httpx.post(f"{picky.url}/classify", content=b"%PDF", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_an_address_in_place_of_an_image_is_not_fetched(picky):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/image.jpg"
        answer = httpx.post(f"{picky.url}/classify", json={"image": url})
        with pytest.raises(TimeoutError):
            listening.accept()
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert "base64" in answer.json()["detail"]


def test_the_line_of_a_request_tells_where_its_time_went(guarded):
    headers = {"X-API-Key": IN_FILE, "X-Request-Id": "told-of"}
    httpx.post(f"{guarded.url}/classify", content=SCENE.read_bytes(), headers=headers)
    while not (found := [line for line in lines(guarded) if line.get("request_id") == "told-of"]):
        pass
    (line,) = found
    assert (line["method"], line["route"], line["status"]) == ("POST", "/classify", 200)
    assert line["batch_size"] == 1
    stages = line["stages_ms"]
    assert {"read", "decode", "queue", "compute", "encode"} <= stages.keys()
    assert 0 < stages["compute"] < line["duration_ms"]
