"""Clients that try to take the service away from others, against the real process.

Other clients send an honest request every second meanwhile, and the probes are read all the time.
"""

import asyncio
import http.client
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from tests.hostile import jpeg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
logger = logging.getLogger(__name__)

SCENE = (Path(__file__).parents[1] / "samples/scene-0000.png").read_bytes()
MIB = 2**20
SIDE = 7070  # of an image that has almost the most pixels
HONEST_S = 5.0  # an honest request takes no longer
AT_ONCE_S = 1.0  # nor does its refusal


class Witness:
    """Honest requests and probes during an attack.

    Attributes:
        probes: the status of each probe, or the error of its connection.
        probe_s: how long each took, in seconds.
        honest: status, seconds and Retry-After of each honest request.
        memory: resident bytes of all processes of the service, at the most.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.probes: Counter[object] = Counter()
        self.probe_s: list[float] = []
        self.honest: list[tuple[int, float, str | None]] = []
        self.memory = 0
        self._url, self._pid = url, pid
        self._end = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Send them until the end of the block."""
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(self._probe), pool.submit(self._send)]
            try:
                yield
            finally:
                self._end.set()
            for task in tasks:
                task.result()

    def check(self) -> None:
        """All probes were answered, and each honest request was answered or refused in time."""
        assert set(self.probes) == {200}, self.probes
        assert self.honest
        for status, seconds, retry_after in self.honest:
            if status == 503:
                assert seconds <= AT_ONCE_S
                assert int(retry_after) >= 1
            else:
                assert (status, seconds <= HONEST_S) == (200, True), self.honest

    def _probe(self) -> None:
        with new_connections(self._url) as client:
            while True:
                for path in ("/livez", "/readyz", "/health"):
                    start = time.monotonic()
                    try:
                        self.probes[client.get(path).status_code] += 1
                    except httpx.TransportError as error:
                        self.probes[repr(error)] += 1
                    self.probe_s.append(time.monotonic() - start)
                self.memory = max(self.memory, resident(self._pid))
                if self._end.wait(0.1):
                    return

    def _send(self) -> None:
        with new_connections(self._url) as client:
            while not self._end.wait(1.0):
                start = time.monotonic()
                response = client.post("/classify", content=SCENE)
                seconds = time.monotonic() - start
                self.honest.append(
                    (response.status_code, seconds, response.headers.get("retry-after"))
                )


def new_connections(url: str) -> httpx.Client:
    """A client with a connection for each request: an idle one may be closed in an attack."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, timeout=60, limits=limits)


def resident(pid: int) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for process in (pid, *children_of(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def posted(url: str, path: str, body: bytes, count: int, **options: object) -> list[httpx.Response]:
    """The responses to the same request, sent by so many clients at once."""

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=url, timeout=90) as client:
            return client.post(path, content=body, **options)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(post, range(count)))


def request_head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to the service."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=90) as connection:
        yield connection


def metric(url: str, name: str) -> float:
    """The sum of the series of a metric."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"patchserve_{name}"))


@pytest.fixture(scope="module")
def service(launch):
    with launch() as service:
        service.classify(SCENE)
        yield service


def attack(service, body: bytes) -> None:
    """80 clients send an expensive file at once, and leave after a while."""
    witness = Witness(service.url, service.process.pid)
    with witness.watching(), ExitStack() as stack:
        for _ in range(80):
            client = stack.enter_context(connected(service.url))
            client.setblocking(False)
            message = request_head("/classify", f"Content-Length: {len(body)}") + body
            asyncio.run(send_all(client, message))
        time.sleep(10)
        stack.close()
        service.wait_for(lambda: idle(service), within_s=10)
    witness.check()
    messages = [record["message"] for record in service.records()]
    assert not any("stuck" in message or "ended" in message for message in messages)


async def send_all(client: socket.socket, message: bytes) -> None:
    """Send a message whose reader may be slow."""
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client, message), 60)


def idle(service) -> bool:
    """Whether no lane works, besides the honest request."""
    before = metric(service.url, "device_busy_seconds_total")
    time.sleep(0.5)
    return metric(service.url, "device_busy_seconds_total") - before < 0.1


EXPENSIVE = {
    "98 refining scans": lambda: jpeg.refinements(SIDE, 98),  # refused for their number
    "20 refining scans": lambda: jpeg.refinements(SIDE, 20),  # the costliest accepted file
    "as many scans as are accepted": lambda: jpeg.scans(SIDE, 19),
    "4 megapixels, 98 scans": lambda: jpeg.scans(2000, 98),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("make", EXPENSIVE.values(), ids=EXPENSIVE)
def test_expensive_images_delay_an_honest_request_by_seconds_only(launch, workers, make):
    with launch("--workers", workers) as service:
        if workers > 1:
            service.wait_for_replicas(workers)
        attack(service, make())


def test_declared_bodies_that_do_not_arrive_leave_room_for_others(service):
    with ExitStack() as stack:
        for _ in range(13):
            idle_one = stack.enter_context(connected(service.url))
            idle_one.sendall(request_head("/classify", f"Content-Length: {20 * MIB}"))
        statuses = Counter(service.classify(SCENE).status_code for _ in range(200))
    assert statuses[200] >= 190


def test_tiny_chunks_leave_the_probes_fast(service):
    chunks, refused, end = b"1\r\nx\r\n" * 20_000, Counter(), threading.Event()

    def send() -> None:
        while not end.is_set():
            with connected(service.url) as attacker:
                try:
                    attacker.sendall(request_head("/classify", "Transfer-Encoding: chunked"))
                    while not end.is_set():
                        attacker.sendall(chunks)
                except ConnectionError:
                    pass
                try:
                    refused[attacker.recv(12)] += 1
                except ConnectionError:
                    refused["reset"] += 1

    witness = Witness(service.url, service.process.pid)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(send)
        with witness.watching():
            time.sleep(10)
        end.set()
    witness.check()
    assert sorted(witness.probe_s)[int(0.99 * len(witness.probe_s))] <= 0.1
    assert refused[b"HTTP/1.1 400"] > 0.9 * refused.total()


def test_responses_that_are_read_slowly_are_aborted_and_their_memory_is_released(launch):
    file = BytesIO()
    noise = Image.effect_noise((3400, 3400), 90)
    Image.merge("RGB", [noise] * 3).save(file, "JPEG", quality=50)
    body = file.getvalue()
    with launch() as service:
        for _ in range(3):  # the process reaches its size
            assert posted(service.url, "/segment?render=overlay", body, 2)[0].status_code == 200
        before = resident(service.process.pid)
        with ExitStack() as stack:
            readers = [stack.enter_context(connected(service.url)) for _ in range(14)]
            for reader in readers:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                head = request_head("/segment?render=overlay", f"Content-Length: {len(body)}")
                reader.sendall(head + body)
            start = time.monotonic()
            open_ones = set(readers)
            while open_ones and time.monotonic() - start < 120:
                for reader in list(open_ones):
                    try:
                        if not reader.recv(7000 // 14):
                            open_ones.discard(reader)
                    except ConnectionError:
                        open_ones.discard(reader)
                time.sleep(1 / 14)
                if metric(service.url, "aborted_connections_total") >= 14:
                    break
            assert metric(service.url, "aborted_connections_total") >= 14
        service.wait_for(lambda: resident(service.process.pid) < before + 50 * MIB, within_s=10)


def test_large_overlays_at_once_get_200_or_an_immediate_refusal(launch):
    file = BytesIO()
    Image.new("RGB", (7071, 7071), (90, 120, 30)).save(file, "PNG")
    with launch() as service:
        witness = Witness(service.url, service.process.pid)
        with witness.watching():
            responses = posted(service.url, "/segment?render=overlay", file.getvalue(), 24)
        witness.check()
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) <= {200, 503}
    assert statuses[200] >= 2
    assert witness.memory <= 1.5e9


def test_explanations_meet_their_deadlines_although_clients_retry_at_once(service):
    headers = {"X-Request-Timeout-Ms": "3000"}
    end = time.monotonic() + 20

    def keep_sending(_: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while time.monotonic() < end:
                statuses[client.post("/explain", content=SCENE, headers=headers).status_code] += 1
        return statuses

    with ThreadPoolExecutor(64) as pool:
        statuses = sum(pool.map(keep_sending, range(64)), Counter())
    logger.info("%s", dict(statuses))
    assert set(statuses) <= {200, 503, 504}
    assert statuses[504] <= 0.01 * (statuses[200] + statuses[504])
    assert statuses[503] <= 20 * statuses[200]  # about 200 times as many if no refusal waits


def test_idle_connections_do_not_keep_the_probes_out(launch, small):
    with launch(*small, "--max-connections", 200) as service, ExitStack() as stack:
        for _ in range(460):
            stack.enter_context(connected(service.url))
        witness = Witness(service.url, service.process.pid)
        with witness.watching():
            for _ in range(50):
                assert service.get("/livez").status_code == 200
                assert service.get("/readyz").status_code == 200
        assert set(witness.probes) == {200}


def by_http_client(url: str, body: bytes) -> int:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    try:
        connection.request("POST", "/classify", body)
        return connection.getresponse().status
    finally:
        connection.close()


def by_urllib(url: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(f"{url}/classify", body, timeout=60) as response:  # noqa: S310
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def by_requests(url: str, body: bytes) -> int:
    requests = pytest.importorskip("requests")
    return requests.post(f"{url}/classify", data=body, timeout=60).status_code


def by_httpx(url: str, body: bytes) -> int:
    async def post() -> int:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            return (await client.post("/classify", content=body)).status_code

    return asyncio.run(post())


@pytest.mark.parametrize("post", [by_httpx, by_http_client, by_urllib, by_requests])
def test_clients_that_send_everything_first_can_read_a_refusal(
    launch, small, post: Callable[[str, bytes], int]
):
    body = bytes(20 * MIB)

    def attempt(_: int) -> object:
        try:
            return post(service.url, body)
        except Exception as error:  # noqa: BLE001  # counted
            return repr(error)

    with launch(*small, "--max-body-bytes", MIB) as service, ThreadPoolExecutor(64) as pool:
        statuses = Counter(pool.map(attempt, range(128)))
    assert statuses[413] >= 0.99 * 128, statuses
