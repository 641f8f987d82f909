"""Fixtures of the browser tests: running services, and a Chromium that reaches nothing else."""

import base64
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]  # `make test-browser` installs it

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "models" / "bundled"
SAMPLES = ROOT / "app" / "api" / "playground" / "samples"
PATCHSERVE = Path(sys.executable).with_name("patchserve")
HOSTILE = "<img src=x onerror=alert(1)>"
KEY = "a-key-of-the-browser-tests"
STARTS_WITHIN_S = 100
CHROMIUM_FLAGS = [
    "--no-sandbox",  # it may run as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `make test` leaves them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Service:
    """A running `patchserve serve`, and the address at which a browser finds its page."""

    url: str
    process: subprocess.Popen[bytes]

    def post(self, path: str, image: bytes, **headers: str) -> Any:
        """The JSON that the service answers to an image."""
        headers = {"Accept": "application/json"} | headers
        response = httpx.post(self.url + path, content=image, headers=headers, timeout=60)
        return response.raise_for_status().json()

    def wait_until(self, path: str, status: int) -> None:
        """Poll a path until it has this status."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(self.url + path).status_code == status:
                    return
            assert self.process.poll() is None, "the service has ended"
            assert time.monotonic() < deadline, f"{path} has not become {status}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process, as an operator does."""
        self.process.terminate()
        self.process.wait(60)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def launch() -> Callable[..., AbstractContextManager[Service]]:
    """Start the service: `with launch("--segmenter", "none", PATCHSERVE_API_KEYS="k") as service`.

    With `ready=False` it may still be loading.
    """

    @contextmanager
    def launching(
        *flags: object, port: int = 0, ready: bool = True, **variables: str
    ) -> Iterator[Service]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHSERVE_")}
        clean |= {"PATCHSERVE_RUNTIME": "torch", "PATCHSERVE_LAME_DUCK_S": "0"}
        clean.setdefault("PATCHSERVE_MAX_BATCH_SIZE", "2")  # the warm-up measures every size
        port = port or free_port()
        command = [str(PATCHSERVE), "serve", "--port", str(port), *map(str, flags)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=clean | variables)
        service = Service(f"http://127.0.0.1:{port}", process)
        try:
            service.wait_until("/status", 200)
            deadline = time.monotonic() + STARTS_WITHIN_S
            while ready and not httpx.get(service.url + "/status").json()["ready"]:
                assert time.monotonic() < deadline, "the service does not become ready"
                time.sleep(0.05)
            yield service
        finally:
            service.stop()

    return launching


@pytest.fixture(scope="session")
def bundled(launch: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """The bundled checkpoints with default settings."""
    with launch() as service:
        yield service


@pytest.fixture(scope="session")
def keyed(launch: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """A service with an API key, behind a proxy that it trusts."""
    flags = ("--trusted-proxies", "127.0.0.1", "--segmenter", "none")
    with launch(*flags, PATCHSERVE_API_KEYS=KEY) as service:
        yield service


@pytest.fixture(scope="session")
def classifier_only(
    launch: Callable[..., AbstractContextManager[Service]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service without a segmenter, with samples of one's own, and its probes on another port."""
    samples = tmp_path_factory.mktemp("samples")
    scene = Image.open(sorted(SAMPLES.iterdir())[1])
    for name in ("my scene.png", "scan.tiff"):
        scene.save(samples / name)
    with launch("--segmenter", "none", "--ops-port", free_port(), "--samples", samples) as service:
        yield service


@pytest.fixture(scope="session")
def hostile(
    launch: Callable[..., AbstractContextManager[Service]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service below a path prefix, of checkpoints whose labels are markup that runs a script."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("shapes-vit", "shapes-segformer"):
        shutil.copytree(BUNDLED / name, folder / name)
        config = folder / name / "config.json"
        values = json.loads(config.read_text())
        values["id2label"] = {index: f"{HOSTILE} {index}" for index in values["id2label"]}
        values["label2id"] = {label: int(index) for index, label in values["id2label"].items()}
        config.write_text(json.dumps(values))
    flags = ("--classifier", folder / "shapes-vit", "--segmenter", folder / "shapes-segformer")
    with launch(*flags, "--root-path", "/vision") as service:
        yield service


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium, which resolves no name of another host."""
    from playwright.sync_api import sync_playwright

    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert program, "these tests need Chromium, which `make test-browser` installs"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """What a browser has been doing.

    Attributes:
        expected: parts of console messages that a test provokes.
    """

    context: "BrowserContext"
    console: list[str]
    requests: list["Request"]
    expected: tuple[str, ...] = ()

    def open(self, url: str, *, wait: bool = True) -> "Page":
        """Open a page and wait until it shows the models and the samples."""
        page = self.context.new_page()
        page.goto(url)
        if wait:
            page.wait_for_selector("#models article", state="attached")
            page.wait_for_selector("#samples button")
        return page

    def sent(self, path: str) -> list["Request"]:
        """The requests with a path that ends so, in their order."""
        return [one for one in self.requests if one.url.partition("?")[0].endswith(path)]


@pytest.fixture
def visit(browser: "Browser", request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A browser without history, which must not complain nor look for another host.

    The mark `context` has arguments of the browser's context: its size, its color scheme.
    """
    marker = request.node.get_closest_marker("context")
    options = {"viewport": {"width": 1280, "height": 900}} | (marker.kwargs if marker else {})
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    visit = Visit(context, [], [])

    def note(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            visit.console.append(message.text)

    context.on("console", note)
    context.on("weberror", lambda error: visit.console.append(str(error.error)))
    context.on("request", lambda request: visit.requests.append(request))
    yield visit
    context.close()
    elsewhere = ("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:")
    assert [one.url for one in visit.requests if not one.url.startswith(elsewhere)] == []
    unexpected = [m for m in visit.console if not any(part in m for part in visit.expected)]
    assert unexpected == []


def overlay(page: "Page") -> NDArray[np.uint8]:
    """The pixels that the page draws over the photograph, uint8 (H, W, 4)."""
    url = page.locator("#overlay").evaluate("(canvas) => canvas.toDataURL()")
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.fixture
def scene() -> Path:
    """A sample image that is bundled with the page."""
    return sorted(SAMPLES.iterdir())[1]


@pytest.fixture
def choose_sample(scene: Path) -> Callable[["Page"], None]:
    """Click on the thumbnail of `scene`."""

    def click(page: "Page") -> None:
        page.get_by_role("button", name=f"Sample {scene.name}").click()

    return click
