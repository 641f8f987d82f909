"""API keys, a separate port for the probes, image formats and CORS, in the real process."""

import base64
import os
import signal
import socket
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.hostile import heif

pytestmark = pytest.mark.xdist_group(name="timing")
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
KEY_IN_VARIABLE, KEY_IN_FILE = "key-in-the-variable-1", "key-in-the-file-2/+=~"
OPS = ("/health", "/livez", "/readyz", "/startupz", "/metrics")
WITH_KEY = {"X-API-Key": KEY_IN_FILE}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def guarded(launch, small, tmp_path_factory):
    """A service with API keys that accepts some formats alone, and pages of one origin."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the shop\n{KEY_IN_FILE}\n")
    flags = ("--image-formats", "png, webp, avif, heic", "--cors-origins", "https://shop.example")
    keys = ("--api-keys-file", file)
    with launch(*small, *flags, *keys, PATCHSERVE_API_KEYS=KEY_IN_VARIABLE) as service:
        yield service


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY_IN_VARIABLE}"},
        {"X-API-Key": KEY_IN_VARIABLE},
        {"Authorization": f"Bearer {KEY_IN_FILE}"},
        {"X-API-Key": KEY_IN_FILE},
    ],
)
def test_keys_of_the_variable_and_the_file_are_accepted(guarded, headers):
    response = httpx.post(f"{guarded.url}/classify", content=SCENE.read_bytes(), headers=headers)
    assert response.status_code == 200


def test_without_a_key_a_large_body_is_refused_before_it_is_read(guarded):
    """Send a large body as curl does: the headers first, the rest only if it is wanted."""
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 15000000\r\n"
    address = ("127.0.0.1", int(guarded.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        response = connection.makefile("rb").read()
    assert response.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer" in response
    assert b'"code":"unauthorized"' in response


def test_no_key_is_in_the_log_the_metrics_or_a_response(guarded):
    unknown = "a-key-that-is-not-configured"
    with httpx.Client(base_url=guarded.url) as client:
        responses = [
            client.post("/classify", headers={"X-API-Key": unknown}),
            client.post("/classify", headers={"Authorization": f"Bearer {KEY_IN_FILE}"}),
            client.get("/nothing", headers={"X-API-Key": KEY_IN_VARIABLE}),
            client.get("/models", headers={"X-API-Key": KEY_IN_VARIABLE}),
            client.get("/metrics", headers={"X-API-Key": KEY_IN_VARIABLE}),
            client.get("/openapi.json"),
        ]
    assert [response.status_code for response in responses] == [401, 400, 404, 200, 200, 200]
    texts = [f"{response.headers}{response.text}" for response in responses]
    guarded.wait_for(lambda: any(one.get("route") == "/metrics" for one in guarded.records()))
    for secret in (KEY_IN_VARIABLE, KEY_IN_FILE, unknown):
        assert secret not in guarded.log.read_text()
        assert not any(secret in text for text in texts)
    assert guarded.complaints() == []


@pytest.mark.slow  # the next test has one process, tests/app/replicas/test_server.py the replica
def test_replicas_serve_the_probes_and_metrics_on_a_separate_port(launch, small):
    port = free_port()
    flags = ("--ops-port", port, "--workers", 2)
    with launch(*small, *flags, ready=False) as service:
        ops = type(service)(f"http://127.0.0.1:{port}", service.process, service.log)
        ops.wait_for_replicas()
        check_ports(service, ops)
    assert service.process.returncode == 0


def check_ports(service, ops):
    """Check that the probes and metrics are on the second port, and the rest on the first."""
    for path in OPS:
        assert ops.get(path).status_code == 200
        assert service.get(path).status_code == 404
    assert service.classify(SCENE.read_bytes()).status_code == 200
    assert ops.classify(b"").status_code == 404
    counted = 'http_requests_total{code="200",method="POST",route="/classify"} 1.0'
    ops.wait_for_text("/metrics", counted)


def test_the_probes_respond_while_the_main_port_is_full_and_while_it_drains(launch, small):
    port = free_port()
    flags = ("--ops-port", port, "--max-connections", 50)
    with launch(*small, *flags, ready=False) as service, ExitStack() as crowd:
        ops = type(service)(f"http://127.0.0.1:{port}", service.process, service.log)
        ops.wait_for_status("/readyz", 200)
        check_ports(service, ops)
        address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
        for _ in range(50):
            connection = crowd.enter_context(socket.create_connection(address))
            connection.sendall(b"POST /classify HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        service.wait_for(lambda: service.classify(b"x").status_code == 503)  # all are accepted
        assert ops.get("/readyz").status_code == 200
        os.kill(service.process.pid, signal.SIGTERM)
        ops.wait_for_status("/readyz", 503)
        assert ops.get("/livez").status_code == 200
        assert ops.get("/readyz").json()["reasons"] == ["draining"]
        assert "patchserve_ready 0.0" in ops.get("/metrics").text
        crowd.close()
        assert service.process.wait(60) == 0


def test_a_disabled_format_is_refused_and_the_enabled_ones_are_named(guarded):
    file = BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG")
    response = httpx.post(f"{guarded.url}/classify", content=file.getvalue(), headers=WITH_KEY)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_image_format")
    assert "PNG, WebP, AVIF or HEIC" in response.json()["detail"]
    assert response.headers["accept"] == "image/png, image/webp, image/avif, image/heic"


def test_avif_and_heic_are_decoded_if_they_are_enabled(guarded):
    for data in (heif.plain("AVIF"), heif.plain("HEIC"), heif.grid("HEIC", 2, 2)):
        response = httpx.post(f"{guarded.url}/classify", content=data, headers=WITH_KEY)
        assert response.status_code == 200
    for case in heif.cases():
        response = httpx.post(f"{guarded.url}/classify", content=case.data, headers=WITH_KEY)
        code = "ok" if response.status_code == 200 else response.json()["code"]
        assert code == case.code, case.name
    assert guarded.complaints() == []


def test_without_its_package_heic_is_refused_at_the_start(refuse, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pillow_heif'] = None\n")
    ended = refuse("--image-formats", "jpeg,heic", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        "patchserve: image_formats: heic needs pillow-heif; "
        "run pip install 'patchserve[heif]', or make install EXTRAS=heif"
    )


def test_a_page_of_an_allowed_origin_can_read_a_refusal(guarded):
    headers = {"Origin": "https://shop.example", **WITH_KEY}
    response = httpx.post(f"{guarded.url}/classify", content=b"%PDF", headers=headers)
    assert response.status_code == 415
    assert response.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_url_instead_of_an_image_is_not_fetched(guarded):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/image.jpg"
        response = httpx.post(f"{guarded.url}/classify", json={"image": url}, headers=WITH_KEY)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
    assert "base64" in response.json()["detail"]


def test_the_log_line_of_a_request_is_json_with_the_time_of_each_stage(guarded):
    headers = {**WITH_KEY, "X-Request-Id": "find-me"}
    image = base64.b64encode(SCENE.read_bytes()).decode()
    httpx.post(f"{guarded.url}/classify", json={"image": image}, headers=headers)

    def found():
        return [one for one in guarded.records() if one.get("request_id") == "find-me"]

    guarded.wait_for(lambda: bool(found()))
    (line,) = found()
    assert (line["method"], line["route"], line["status"]) == ("POST", "/classify", 200)
    assert line["batch_size"] == 1
    stages = line["stages_ms"]
    assert {"read", "decode", "queue", "compute", "encode"} <= stages.keys()
    assert 0 < stages["compute"] < line["duration_ms"]
