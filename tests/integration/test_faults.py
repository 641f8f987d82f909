"""Faults of the device in the real process: which requests fail, and how the process ends."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group(name="timing")]
PROGRAM = [sys.executable, str(Path(__file__).with_name("faulty.py"))]
WAITS_S = 60
HOLD, POISON, HANG = "white", "red", "lime"  # as in faulty.py
LOSE, DIE, TOO_LARGE = "blue", "yellow", "cyan"


def picture(color: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), color).save(file, "PNG")
    return file.getvalue()


def grey(level: int) -> str:
    return f"rgb({level},{level},{level})"


def scores(response: httpx.Response) -> dict[int, float]:
    """Scores by label index; the batch changes the scores of an image only by rounding."""
    return {one["index"]: one["score"] for one in response.json()["predictions"]}


class Faulty:
    """The service with an engine that fails, and the named pipes of that engine."""

    def __init__(self, service, pipes: Path, client: httpx.AsyncClient) -> None:
        self.service = service
        self.client = client
        self._pipes = pipes

    async def classify(self, color: str, **headers: str) -> httpx.Response:
        return await self.client.post("/classify", content=picture(color), headers=headers)

    async def series(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric with these labels."""
        response = await self.client.get("/metrics")
        if response.status_code != 200:  # from a replica that is about to end
            return 0.0
        text = response.text
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"patchserve_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found)

    async def until(self, name: str, value: float, **labels: str) -> None:
        async with asyncio.timeout(WAITS_S):
            while await self.series(name, **labels) != value:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[[], None]]:
        """While an image occupies the device; the function that is yielded releases the device."""
        holding = asyncio.create_task(self.classify(HOLD))
        await asyncio.to_thread((self._pipes / "entered").read_text)  # the batch has started
        yield (self._pipes / "gate").open("w").close
        assert (await holding).status_code == 200

    async def crowd(self, *colors: str) -> list[httpx.Response]:
        """The responses to images that are all in the queue when the device becomes free."""
        async with self.held() as release:
            sent = [asyncio.create_task(self.classify(color)) for color in colors]
            await self.until("queue_depth", len(colors))
            release()
            return await asyncio.gather(*sent)

    async def exit_status(self) -> int:
        return await asyncio.to_thread(self.service.process.wait, WAITS_S)

    def last_line(self) -> str:
        return self.service.log_lines()[-1]

    def records(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.service.log_lines() if line.startswith("{")]


@asynccontextmanager
async def connected(service, pipes: Path) -> AsyncIterator[Faulty]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=WAITS_S, limits=limits) as client:
        yield Faulty(service, pipes, client)


@pytest.fixture(scope="module")
def launch_faulty(launch, tmp_path_factory) -> Callable[..., object]:
    """Start the service with the faulty engine: `with launch_faulty() as (service, pipes)`."""

    @contextmanager
    def launching(*flags: object, **variables: str):
        pipes = tmp_path_factory.mktemp("pipes")
        for name in ("entered", "gate"):
            os.mkfifo(pipes / name)
        flags = ("--segmenter", "none", "--max-batch-size", 32, *flags)
        with launch(*flags, program=PROGRAM, FAULTY_GATES=str(pipes), **variables) as service:
            yield service, pipes

    return launching


@pytest.fixture
def faulty(launch_faulty) -> Callable[..., object]:
    """A faulty service for one test: `async with faulty() as service`."""

    @asynccontextmanager
    async def started(*flags: object, **variables: str):
        with launch_faulty(*flags, **variables) as (service, pipes):
            async with connected(service, pipes) as faulty:
                yield faulty

    return started


@pytest.fixture(scope="module")
def surviving(launch_faulty) -> Iterator[tuple[object, Path]]:
    """A service for the tests after which it is as healthy as before."""
    with launch_faulty() as started:
        yield started


@pytest.fixture
async def shared(surviving) -> AsyncIterator[Faulty]:
    """The shared service and a client of its own for each test."""
    async with connected(*surviving) as faulty:
        yield faulty


async def test_of_sixteen_images_in_a_batch_only_the_faulty_one_fails(shared):
    alone = [scores(await shared.classify(grey(16 * n))) for n in range(16)]
    colors = [POISON if n == 11 else grey(16 * n) for n in range(16)]
    batches = await shared.series("batch_size_bucket", le="16.0")
    images = await shared.series("batch_size_sum")
    splits = await shared.series("batch_splits_total", cause="error")
    responses = await shared.crowd(*colors)
    failed = responses.pop(11)
    for response, expected in zip(responses, alone[:11] + alone[12:], strict=True):
        assert scores(response) == pytest.approx(expected, abs=1e-5)
    assert failed.status_code == 500
    assert failed.headers["content-type"] == "application/problem+json"
    assert failed.json()["code"] == "internal"
    assert "poison" not in failed.text
    (error,) = [record for record in shared.records() if record["level"] == "error"]
    assert error["request_id"] == failed.json()["request_id"]
    assert "ValueError: the poison image" in error["exception"]
    assert await shared.series("batch_splits_total", cause="error") == splits + 4
    assert await shared.series("batch_size_bucket", le="16.0") == batches + 2
    assert await shared.series("batch_size_sum") == images + 1 + 16
    assert (await shared.classify("gray")).status_code == 200
    assert (await shared.client.get("/readyz")).status_code == 200


async def test_out_of_memory_splits_the_batch_and_makes_later_batches_smaller(faulty):
    async with faulty(FAULTY_MOST="4") as service:
        responses = await service.crowd(*[grey(16 * n) for n in range(16)])
        assert [response.status_code for response in responses] == [200] * 16
        assert await service.series("out_of_memory_total") == 3
        assert await service.series("batch_splits_total", cause="out_of_memory") == 3
        (model,) = (await service.client.get("/models")).json()["models"]
        assert model["max_batch_size"] == 4
        again = await service.crowd(*[grey(16 * n) for n in range(16)])
        assert [response.status_code for response in again] == [200] * 16
        for second, first in zip(again, responses, strict=True):
            assert scores(second) == pytest.approx(scores(first), abs=1e-5)
        assert await service.series("out_of_memory_total") == 3
        await check_an_image_that_does_not_fit_alone(service)


async def check_an_image_that_does_not_fit_alone(service):
    response = await service.classify(TOO_LARGE)
    assert response.status_code == 503
    assert response.json()["code"] == "overloaded"
    assert response.json()["retryable"] is True
    assert int(response.headers["retry-after"]) >= 1


async def test_when_the_device_hangs_requests_end_in_time_and_livez_fails(faulty):
    async with faulty("--request-timeout-s", 3) as service:
        hanging = asyncio.create_task(service.classify(HANG))
        async with asyncio.timeout(WAITS_S):
            while (await service.client.get("/livez")).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        dead = await service.client.get("/livez")
        assert "is stuck" in dead.json()["reasons"][0]
        assert (await service.client.get("/readyz")).status_code == 503
        assert (await hanging).json()["code"] == "deadline_exceeded"
        assert (await service.classify("gray")).status_code in (503, 504)
        assert await service.series("deadline_missed_total", where="compute") == 1


async def test_a_lost_device_ends_the_process_with_4_and_one_line(faulty):
    async with faulty() as service:
        upload = request("gray")
        reader, writer = await connection(service)
        writer.write(upload[:-20])  # incomplete, so it is still in flight when the device is lost
        await service.until("http_requests_in_flight", 2)  # the upload, and /metrics itself
        response = await service.classify(LOSE)
        assert response.status_code == 503
        assert response.json()["code"] == "not_ready"
        assert response.json()["retryable"] is True
        unfinished = await reader.read()
        assert unfinished.startswith(b"HTTP/1.1 503 ")
        assert b'"not_ready"' in unfinished
        writer.close()
        assert await service.exit_status() == 4
        last = service.last_line()
        assert last == "patchserve: cannot continue: CUDA error: an illegal memory access"


@pytest.mark.slow  # test_a_lost_device ends the same way, and test_health.py has a dead lane
async def test_a_device_thread_that_ended_ends_the_process_and_fails_its_requests(faulty):
    async with faulty() as service:
        assert (await service.classify(DIE)).status_code == 200  # its batch was complete
        lost = await service.classify("gray")
        assert lost.status_code == 503
        assert lost.json()["code"] == "not_ready"
        assert await service.exit_status() == 4
        assert "the thread of cpu has ended" in service.last_line()


@pytest.mark.slow
async def test_of_two_replicas_only_the_one_whose_device_is_lost_restarts(faulty):
    async with faulty("--workers", 2) as service:
        # an ending replica may close an idle connection just when the client reuses it
        service.client.headers["connection"] = "close"
        assert (await service.classify(LOSE)).status_code == 503
        codes, alive, restarts = [], [], 0.0
        async with asyncio.timeout(WAITS_S):
            while restarts < 1 or "ok" not in codes:
                response = await service.classify("gray")
                codes.append(response.json().get("code", "ok"))
                alive.append((await service.client.get("/livez")).status_code)
                restarts = await service.series("replica_restarts_total")
                await asyncio.sleep(0.01)
        first = codes.index("ok")  # before its end the replica refuses what it has accepted
        assert set(codes[:first]) <= {"not_ready"}
        assert set(codes[first:]) == {"ok"}
        assert set(alive[first:]) == {200}
        await service.until("replica_up", 2)
        assert any("ended with status 4" in one.get("message", "") for one in service.records())


async def connection(service: Faulty) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = service.client.base_url
    return await asyncio.open_connection(url.host, url.port)


async def disconnect(service: Faulty, request: bytes, sent: int, after_s: float) -> None:
    """Send the first `sent` bytes of a request, wait, and disconnect."""
    _, writer = await connection(service)
    try:
        writer.write(request[:sent])
        await asyncio.sleep(after_s)  # the moment is random on purpose
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the transport closes in the next turn of the loop


def request(color: str) -> bytes:
    body = picture(color)
    return b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_queued_requests_whose_clients_disconnect_are_not_computed(shared):
    computed = await shared.series("batch_size_sum")
    places = ("decode", "queue")  # image threads may still hold some of them
    cancelled = sum([await shared.series("cancelled_total", where=one) for one in places])
    async with shared.held() as release:
        whole = request("gray")
        clients = [
            asyncio.create_task(disconnect(shared, whole, len(whole), 60)) for _ in range(100)
        ]
        await shared.until("queue_depth", 100)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await shared.until("queue_depth", 0)
        release()
    assert await shared.series("batch_size_sum") == computed + 1
    now = sum([await shared.series("cancelled_total", where=one) for one in places])
    assert now == cancelled + 100


async def test_five_hundred_disconnects_at_random_moments_leave_nothing_behind(shared):
    draw = random.Random(5)  # noqa: S311
    earlier = await shared.series("images_total", outcome="client_gone")
    complaints = len(shared.service.complaints())
    whole = request("gray")
    for _ in range(5):
        await asyncio.gather(
            *(
                disconnect(
                    shared,
                    whole,
                    draw.choice([len(whole), draw.randrange(len(whole))]),
                    draw.uniform(0, 0.2),
                )
                for _ in range(100)
            )
        )
    await shared.until("http_requests_in_flight", 1)  # the request for /metrics itself
    assert await shared.series("queue_depth") == 0
    computed, before = await shared.series("batch_size_sum"), -1.0
    while computed != before:  # a lane may still run the batch of a client that has disconnected
        await asyncio.sleep(0.5)
        computed, before = await shared.series("batch_size_sum"), computed
    assert (await shared.classify("gray")).status_code == 200
    assert await shared.series("batch_size_sum") == computed + 1
    counted = await shared.series("images_total")
    assert counted == await shared.series("http_requests_total", route="/classify")
    assert await shared.series("images_total", outcome="client_gone") > earlier + 100
    assert len(shared.service.complaints()) == complaints
