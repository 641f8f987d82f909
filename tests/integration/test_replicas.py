"""Several replicas: one address, one truth, and a death that nobody outside it notices."""

import asyncio
import json
import os
import re
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
READY = {"0": "ready", "1": "ready"}
ANSWERS = r'patchserve_http_requests_total\{code="200",method="POST",route="/classify"\} (\S+)'


@pytest.fixture(scope="module")
def launch_two(launch):
    """Start two replicas: `with launch_two() as service`; both are ready."""

    @contextmanager
    def launching():
        flags = ("--workers", 2, "--segmenter", "none", "--drain-timeout-s", 1)
        with launch(*flags) as service:
            until_both_are_ready(service)
            yield service

    return launching


@pytest.fixture(scope="module")
def two(launch_two):
    """Two replicas for tests that leave two behind."""
    with launch_two() as service:
        yield service


def until_both_are_ready(service):
    while get(service, "/readyz").json()["replicas"] != READY:
        assert service.process.poll() is None, service.log.read_text()


def get(service, path):
    return httpx.get(service.url + path, timeout=60)


def lines(service):
    return [json.loads(line) for line in service.log_lines()]


def process_of(service, index):
    """The number of the replica's latest process, as the log has it."""
    said = [line["message"] for line in lines(service) if line.get("replica") == index]
    return [int(found[1]) for line in said if (found := re.match(r"Started .*\[(\d+)\]", line))][-1]


def series(service, pattern):
    """The value of the one sample that a pattern finds; 0 where it is not there yet."""
    found = re.search(pattern, get(service, "/metrics").text)
    return float(found[1]) if found else 0.0


def answered_by(service):
    """The replica of each image that was answered."""
    return [line["replica"] for line in lines(service) if "POST" in line["message"]]


def restarts(service, index):
    return series(service, rf'patchserve_replica_restarts_total{{replica="{index}"}} (\S+)')


async def classify(service):
    """Ask over a new connection."""
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{service.url}/classify", content=SCENE.read_bytes())


async def test_both_answer_and_any_of_them_shows_the_metrics_of_both(two):
    before = series(two, ANSWERS)
    async with httpx.AsyncClient(base_url=two.url, timeout=60) as client:
        image = SCENE.read_bytes()
        answers = await asyncio.gather(
            *(client.post("/classify", content=image) for _ in range(32))
        )
    assert {answer.status_code for answer in answers} == {200}
    while len(answered := answered_by(two)) < 32:  # a line may be a tenth of a second late
        pass
    assert set(answered) == {0, 1}
    while series(two, ANSWERS) < before + 32:  # each is counted once it has been sent
        pass
    for _ in range(8):
        assert series(two, ANSWERS) == before + 32
    assert get(two, "/livez").json()["replicas"] == READY


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be divided")
def test_the_cores_are_divided(two):
    first, second = (os.sched_getaffinity(process_of(two, index)) for index in range(2))
    usable = os.sched_getaffinity(0)
    assert first | second == usable
    assert len(usable) < 2 or not first & second


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="signals cannot be looked up")
def test_each_is_deaf_to_ctrl_c(two):
    for index in range(2):
        status = Path(f"/proc/{process_of(two, index)}/status").read_text()
        blocked = int(re.search(r"SigBlk:\s*([0-9a-f]+)", status)[1], 16)
        assert blocked & 1 << (signal.SIGINT - 1)


class Stream:
    """Callers who ask again and again, each time over a new connection."""

    def __init__(self, service, count):
        self._service = service
        self._stopping = False
        self._callers = [asyncio.create_task(self._call()) for _ in range(count)]
        self.answered = 0
        self.in_flight = set()
        self.failed = []

    async def _call(self):
        while not self._stopping:
            request = object()
            self.in_flight.add(request)
            try:
                answer = await classify(self._service)
                assert answer.status_code == 200, answer.text
                self.answered += 1
            except httpx.TransportError:
                self.failed.append(request)
            self.in_flight.remove(request)

    async def until_answered(self, count):
        while self.answered < count:
            await asyncio.sleep(0)
            with suppress(StopIteration):
                next(task for task in self._callers if task.done()).result()

    async def stop(self):
        self._stopping = True
        await asyncio.gather(*self._callers)


async def test_a_killed_replica_comes_back_and_nobody_outside_it_notices(two):
    before = series(two, ANSWERS)
    survivor = process_of(two, 1)
    callers = Stream(two, 3)
    await callers.until_answered(20)
    counts = [await asyncio.to_thread(series, two, ANSWERS)]
    os.kill(process_of(two, 0), signal.SIGKILL)
    held_by_the_dead = set(callers.in_flight)
    while await asyncio.to_thread(restarts, two, 0) == 0:
        assert (await asyncio.to_thread(get, two, "/readyz")).status_code == 200
        counts.append(await asyncio.to_thread(series, two, ANSWERS))
    await asyncio.to_thread(until_both_are_ready, two)
    await callers.until_answered(callers.answered + 20)
    await callers.stop()
    assert set(callers.failed) <= held_by_the_dead
    unsure = len(held_by_the_dead)  # an answer is counted once it has been sent
    while series(two, ANSWERS) < before + callers.answered - unsure:
        pass
    counts.append(series(two, ANSWERS))
    assert counts == sorted(counts)
    assert counts[-1] <= before + callers.answered + unsure
    assert process_of(two, 1) == survivor


async def test_a_replica_that_hangs_is_replaced_while_the_other_answers(two):
    hanging = process_of(two, 1)
    os.kill(hanging, signal.SIGSTOP)
    for _ in range(20):
        assert (await classify(two)).status_code == 200
    while await asyncio.to_thread(restarts, two, 1) == 0:
        assert (await classify(two)).status_code == 200
    await asyncio.to_thread(until_both_are_ready, two)
    assert process_of(two, 1) != hanging
    assert "no heartbeat" in two.log.read_text()


@pytest.mark.parametrize("told", ["SIGTERM", "ctrl-c"])
def test_when_told_to_leave_all_do(launch_two, told):
    with launch_two() as service:
        processes = [service.process.pid, *(process_of(service, index) for index in range(2))]
        for each in processes if told == "ctrl-c" else processes[:1]:  # a terminal tells everyone
            os.kill(each, signal.SIGINT if told == "ctrl-c" else signal.SIGTERM)
        assert service.process.wait(60) == 0
        for each in processes:
            with pytest.raises(ProcessLookupError):
                os.kill(each, 0)
        assert all(line["level"] == "info" for line in lines(service))
        assert not answers(service)


def test_told_twice_they_end_at_once(launch_two):
    with launch_two() as service:
        os.kill(process_of(service, 0), signal.SIGSTOP)  # it would not leave in time
        service.process.terminate()
        while not any("shutdown requested" in line["message"] for line in lines(service)):
            assert service.process.poll() is None
        service.process.terminate()
        assert service.process.wait(60) == 143
        with pytest.raises(ProcessLookupError):
            os.kill(process_of(service, 0), 0)


def test_without_their_parent_the_replicas_leave(launch_two):
    with launch_two() as service:
        service.process.kill()
        service.process.wait(60)
        while answers(service):
            pass


def answers(service):
    try:
        get(service, "/livez")
    except httpx.TransportError:
        return False
    return True


def test_a_port_that_is_taken_is_told_in_one_line(serve_command, two):
    command, environment = serve_command("--workers", 2, "--port", httpx.URL(two.url).port)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1
    assert ended.stderr.startswith("patchserve: cannot listen on 127.0.0.1:")
    assert "address already in use" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
