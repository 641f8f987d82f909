"""Usual mistakes, sent with curl and httpx to the real process: each problem says what to do."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.xdist_group(name="bundled")  # they share a service
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def curl(bundled):
    """Send a request with curl: its status and JSON body."""

    def send(path: str, *options: str) -> tuple[int, dict[str, object]]:
        command = ["curl", "--silent", "--max-time", "30", "--write-out", "\n%{http_code}"]
        completed = subprocess.run(
            [*command, *options, bundled.url + path], capture_output=True, text=True, check=True
        )
        body, _, status = completed.stdout.rpartition("\n")
        return int(status), json.loads(body)

    return send


@needs_curl
def test_the_right_ways_to_send_a_file_with_curl(curl):
    for options in (["-F", f"file=@{SCENE}"], ["--data-binary", f"@{SCENE}"], ["-T", str(SCENE)]):
        method = ["-X", "POST"] if options[0] == "-T" else []
        status, answer = curl("/classify", *method, *options)
        assert (status, answer["model"]) == (200, "shapes-vit"), options


@needs_curl
@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["-F", "image=@{}"], "the image is in the part named 'image'; name it file"),
        (["-F", "file={}"], "with curl, write file=@FILE"),
        (["-d", "@{}"], "use --data-binary @FILE, or -F file=@FILE"),
        (["-d", "file=@{}"], "use --data-binary @FILE, or -F file=@FILE"),
        (["-d", '{"image": "aGk="}'], "send Content-Type: application/json"),
    ],
    ids=str,
)
def test_a_wrong_way_to_send_a_file_with_curl_is_told_the_right_one(curl, options, hint):
    status, problem = curl("/classify", *[each.replace("{}", str(SCENE)) for each in options])
    assert (status, problem["code"]) == (400, "malformed_request")
    assert hint in problem["detail"]


@pytest.mark.parametrize("content_type", ["text/json", "application/vnd.example+json"])
def test_other_json_types_are_json(bundled, content_type):
    body = json.dumps({"image": base64.b64encode(SCENE.read_bytes()).decode()})
    response = httpx.post(
        f"{bundled.url}/classify", content=body, headers={"content-type": content_type}
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("https://example.org/cat.jpg", "the service does not fetch addresses"),
        (str(SCENE), "the text is the name of a file"),
        (str(SCENE.read_bytes()), "send its .decode()"),
        (base64.urlsafe_b64encode(SCENE.read_bytes()).decode(), "the URL-safe alphabet"),
        (base64.b64encode(SCENE.read_bytes()).decode()[:-2], "no multiple of 4"),
        (SCENE.read_bytes().hex(), "the text is hexadecimal"),
        ("data:image/png,abc", "the data: URI is not base64"),
        ("aGk*", "character 4 is '*'"),
    ],
    ids=lambda value: value[:20],
)
def test_each_mistake_in_base64_has_its_own_hint(bundled, image, hint):
    response = httpx.post(f"{bundled.url}/classify", json={"image": image})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
    assert hint in response.json()["detail"]
    assert len(response.json()["detail"]) < 200


@pytest.mark.parametrize(
    ("method", "path", "status", "hint"),
    [
        ("GET", "/healthz", 404, "there is no route /healthz; did you mean GET /health?"),
        ("POST", "/segment/", 404, "there is no route /segment/; did you mean POST /segment?"),
        ("GET", "/nothing", 404, "there is no route /nothing"),
        ("GET", "/classify", 405, "/classify does not support GET; send the image with POST"),
        ("POST", "/models", 405, "/models does not support POST; use GET"),
    ],
)
def test_a_wrong_path_or_method_is_told_the_right_one(bundled, method, path, status, hint):
    response = httpx.request(method, bundled.url + path)
    assert (response.status_code, response.json()["detail"]) == (status, hint)


def test_health_answers_as_readyz(bundled):
    for method in ("GET", "HEAD"):
        health, readyz = (
            httpx.request(method, f"{bundled.url}/{name}") for name in ("health", "readyz")
        )
        assert (health.status_code, health.content) == (200, readyz.content)
    assert 'route="/health"' in bundled.get("/metrics").text
