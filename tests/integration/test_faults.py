"""Faults of the device in the real process: who is hurt by one, who is not, and how it ends."""

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

pytestmark = pytest.mark.anyio
PROGRAM = [sys.executable, str(Path(__file__).with_name("faulty.py"))]
WAITS_S = 60
HOLD, POISON, HANG, LOSE, DIE = "white", "red", "lime", "blue", "yellow"  # as the program has them


def picture(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def grey(level: int) -> str:
    return f"rgb({level},{level},{level})"


class Faulty:
    """The service on an engine that fails, and the gates of that engine."""

    def __init__(self, service, gates: Path, client: httpx.AsyncClient) -> None:
        self.service = service
        self.client = client
        self._gates = gates

    async def classify(self, colour: str, **headers: str) -> httpx.Response:
        return await self.client.post("/classify", content=picture(colour), headers=headers)

    async def series(self, name: str, **labels: str) -> float:
        text = (await self.client.get("/metrics")).text
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
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[[], None]]:
        """While an image holds the device; the function that is given lets it go."""
        holding = asyncio.create_task(self.classify(HOLD))
        await self.entered()
        yield (self._gates / "gate").open("w").close
        assert (await holding).status_code == 200

    async def crowd(self, *colours: str) -> list[httpx.Response]:
        """The answers to images that the device finds waiting together."""
        async with self.held() as release:
            asked = [asyncio.create_task(self.classify(colour)) for colour in colours]
            await self.until("queue_depth", len(colours))
            release()
            return await asyncio.gather(*asked)

    async def entered(self) -> None:
        """Wait until the engine says so."""
        await asyncio.to_thread((self._gates / "entered").read_text)

    async def ends(self) -> int:
        """The exit status."""
        return await asyncio.to_thread(self.service.process.wait, WAITS_S)

    def last_line(self) -> str:
        return self.service.log_lines()[-1]

    def log(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.service.log_lines() if line.startswith("{")]


@pytest.fixture
def faulty(launch, tmp_path) -> Iterator[Callable[..., object]]:
    @contextmanager
    def running(*flags: object, **variables: str):
        gates = tmp_path
        for name in ("entered", "gate"):
            os.mkfifo(gates / name)
        flags = ("--segmenter", "none", *flags)
        with launch(*flags, program=PROGRAM, FAULTY_GATES=str(gates), **variables) as service:
            yield service, gates

    @asynccontextmanager
    async def connected(*flags: object, **variables: str):
        with running(*flags, **variables) as (service, gates):
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=service.url, timeout=WAITS_S, limits=limits
            ) as client:
                yield Faulty(service, gates, client)

    return connected


async def test_of_sixteen_images_in_a_batch_only_the_one_at_fault_fails(faulty):
    async with faulty() as service:
        alone = [(await service.classify(grey(16 * n))).content for n in range(16)]
        colours = [POISON if n == 11 else grey(16 * n) for n in range(16)]
        answers = await service.crowd(*colours)
        failed = answers.pop(11)
        assert [answer.content for answer in answers] == alone[:11] + alone[12:]
        assert failed.status_code == 500
        assert failed.headers["content-type"] == "application/problem+json"
        assert failed.json()["code"] == "internal"
        assert "poison" not in failed.text
        (told,) = [line for line in service.log() if line["level"] == "error"]
        assert told["request_id"] == failed.json()["request_id"]
        assert "ValueError: the poison image" in told["exception"]
        assert await service.series("batch_splits_total", cause="error") == 4
        assert await service.series("batch_size_bucket", le="16.0") == 18
        assert await service.series("batch_size_sum") == 16 + 1 + 16
        assert (await service.classify("gray")).status_code == 200
        assert (await service.client.get("/readyz")).status_code == 200


async def test_for_want_of_memory_a_batch_runs_in_parts_and_later_ones_are_smaller(faulty):
    async with faulty(FAULTY_MOST="4") as service:
        answers = await service.crowd(*[grey(16 * n) for n in range(16)])
        assert [answer.status_code for answer in answers] == [200] * 16
        assert await service.series("out_of_memory_total") == 3
        assert await service.series("batch_splits_total", cause="out_of_memory") == 3
        (model,) = (await service.client.get("/models")).json()["models"]
        assert model["max_batch_size"] == 4
        again = await service.crowd(*[grey(16 * n) for n in range(16)])
        assert [answer.status_code for answer in again] == [200] * 16
        assert [a.content for a in again] == [a.content for a in answers]
        assert await service.series("out_of_memory_total") == 3


async def test_an_image_that_does_not_fit_by_itself_may_be_sent_again(faulty):
    async with faulty(FAULTY_MOST="0") as service:
        answer = await service.classify("gray")
        assert answer.status_code == 503
        assert answer.json()["code"] == "overloaded"
        assert answer.json()["retryable"] is True
        assert int(answer.headers["retry-after"]) >= 1


async def test_behind_a_device_that_hangs_each_is_told_in_time_and_the_service_dead(faulty):
    async with faulty("--request-timeout-s", 3) as service:
        hangs = asyncio.create_task(service.classify(HANG))
        async with asyncio.timeout(WAITS_S):
            while (await service.client.get("/livez")).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        dead = await service.client.get("/livez")
        assert "is stuck" in dead.json()["reasons"][0]
        assert (await service.client.get("/readyz")).status_code == 503
        assert (await hangs).json()["code"] == "deadline_exceeded"
        assert (await service.classify("gray")).status_code in (503, 504)
        assert await service.series("deadline_missed_total", where="compute") == 1


async def test_a_device_that_is_lost_ends_the_service_which_can_be_started_anew(faulty):
    async with faulty() as service:
        answer = await service.classify(LOSE)
        assert answer.status_code == 503
        assert answer.json()["code"] == "not_ready"
        assert answer.json()["retryable"] is True
        assert await service.ends() == 4
        assert "CUDA error: unspecified launch failure" in service.last_line()


async def test_a_device_thread_that_ends_ends_the_service_and_loses_what_it_had_taken(faulty):
    async with faulty() as service:
        assert (await service.classify(DIE)).status_code == 200  # its batch is over by then
        lost = await service.classify("gray")
        assert lost.status_code == 503
        assert lost.json()["code"] == "not_ready"
        assert await service.ends() == 4
        assert "the thread of cpu has ended" in service.last_line()


async def test_replicas_lose_only_the_one_whose_device_died(faulty):
    async with faulty("--workers", 2) as service:
        # what is kept open is closed by who ends, maybe just when it is used again
        service.client.headers["connection"] = "close"
        assert (await service.classify(LOSE)).status_code == 503
        codes = []
        async with asyncio.timeout(WAITS_S):
            while await service.series("replica_restarts_total") < 1:
                assert (await service.client.get("/livez")).status_code == 200
                answer = await service.classify("gray")
                codes.append(answer.json().get("code", "ok"))
        first = codes.index("ok")  # until its end the lost one tells whoever it has taken
        assert set(codes[:first]) <= {"not_ready"}
        assert set(codes[first:]) == {"ok"}
        await service.until("replica_up", 2)


async def leave(url: httpx.URL, request: bytes, sent: int, after_s: float) -> None:
    """Send so many bytes of a request, wait, and leave."""
    _, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request[:sent])
        await asyncio.sleep(after_s)  # a moment is a time
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # what it has closed by then


def request(colour: str) -> bytes:
    body = picture(colour)
    return b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_who_leaves_the_queue_costs_the_device_nothing(faulty):
    async with faulty() as service:
        async with service.held() as release:
            whole = request("gray")
            leavers = [
                asyncio.create_task(leave(service.client.base_url, whole, len(whole), 60))
                for _ in range(100)
            ]
            await service.until("queue_depth", 100)
            for leaver in leavers:
                leaver.cancel()
            await asyncio.gather(*leavers, return_exceptions=True)
            await service.until("queue_depth", 0)
            release()
        assert await service.series("batch_size_sum") == 1
        places = ("decode", "queue")  # image threads may still have had some of them
        assert sum([await service.series("cancelled_total", where=one) for one in places]) == 100


async def test_five_hundred_who_leave_at_random_moments_leave_nothing_behind(faulty):
    draw = random.Random(5)  # noqa: S311
    async with faulty() as service:
        whole = request("gray")
        for _ in range(5):
            await asyncio.gather(
                *(
                    leave(
                        service.client.base_url,
                        whole,
                        draw.choice([len(whole), draw.randrange(len(whole))]),
                        draw.uniform(0, 0.2),
                    )
                    for _ in range(100)
                )
            )
        await service.until("http_requests_in_flight", 1)  # the question itself
        assert await service.series("queue_depth") == 0
        ran = await service.series("batch_size_sum")
        assert (await service.classify("gray")).status_code == 200
        assert await service.series("batch_size_sum") == ran + 1
        gone = await service.series("images_total", outcome="client_gone")
        answered = await service.series("images_total", outcome="ok")
        assert gone + answered == await service.series("http_requests_total", route="/classify")
        assert gone > 100
        assert not [line for line in service.log() if line["level"] not in ("info", "debug")]
