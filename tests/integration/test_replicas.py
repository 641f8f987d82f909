"""Several replicas: one address, shared metrics, and a crash that costs no other request."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.replicas.heartbeats import SETTLE_S

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group(name="timing"),
]
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
IMAGE = SCENE.read_bytes()
PATCHSERVE = Path(sys.executable).with_name("patchserve")
READY = {"0": "ready", "1": "ready"}
CLASSIFIED = r'patchserve_http_requests_total\{code="200",method="POST",route="/classify"\} (\S+)'


@pytest.fixture(scope="module")
def launch_two(launch, small):
    """Start two replicas: `with launch_two() as service`; both are ready."""

    @contextmanager
    def launching(*flags):
        with launch("--workers", 2, *small, "--drain-timeout-s", 3, *flags) as service:
            service.wait_for_replicas()
            yield service

    return launching


@pytest.fixture(scope="module")
def two(launch_two):
    """Two replicas for tests that leave two ready replicas."""
    with launch_two("--lame-duck-s", 0.5) as service:
        yield service


def series(service, pattern):
    """The value of the sample that a pattern finds; 0 if there is none yet."""
    found = re.search(pattern, service.get("/metrics").text)
    return float(found[1]) if found else 0.0


def replicas_that_responded(service):
    """The replica of each response to a POST."""
    return [record["replica"] for record in service.records() if "POST" in record["message"]]


def restarts(service, index):
    return series(service, rf'patchserve_replica_restarts_total{{replica="{index}"}} (\S+)')


async def wait_for(service, condition):
    """Poll a condition in another thread, so that the clients go on."""
    await asyncio.to_thread(service.wait_for, condition)


async def test_both_respond_and_each_shows_the_metrics_of_both(two):
    before = series(two, CLASSIFIED)
    async with httpx.AsyncClient(base_url=two.url, timeout=60) as client:
        responses = await asyncio.gather(
            *(client.post("/classify", content=IMAGE) for _ in range(32))
        )
    assert {response.status_code for response in responses} == {200}
    two.wait_for(lambda: len(replicas_that_responded(two)) >= 32)  # a line follows the response
    assert set(replicas_that_responded(two)) == {0, 1}
    two.wait_for(lambda: series(two, CLASSIFIED) >= before + 32)  # counted after the last byte
    for _ in range(8):
        assert series(two, CLASSIFIED) == before + 32
    assert two.get("/livez").json()["replicas"] == READY


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be divided")
def test_the_cores_are_divided(two):
    first, second = (os.sched_getaffinity(two.replica_pid(index)) for index in range(2))
    usable = os.sched_getaffinity(0)
    assert first | second == usable
    assert len(usable) < 2 or not first & second


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="signals cannot be looked up")
def test_replicas_block_ctrl_c(two):
    for index in range(2):
        status = Path(f"/proc/{two.replica_pid(index)}/status").read_text()
        blocked = int(re.search(r"SigBlk:\s*([0-9a-f]+)", status)[1], 16)
        assert blocked & 1 << (signal.SIGINT - 1)


PAUSE_S = 0.02  # between two requests of a client: a replica starts slowly on cores without rest
UNPUBLISHED_S = 0.5  # a killed replica loses what it has not published: 0.25 s on an idle machine


class Stream:
    """Clients that send one request after another, each over a new connection."""

    def __init__(self, service, count):
        self._url = service.url
        self._stopping = False
        self._client = httpx.AsyncClient(
            timeout=60, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._clients = [asyncio.create_task(self._run()) for _ in range(count)]
        self.response_times = []  # on the monotonic clock, in seconds
        self.in_flight = set()
        self.failed = []

    async def _run(self):
        while not self._stopping:
            request = object()
            self.in_flight.add(request)
            try:
                response = await self._client.post(f"{self._url}/classify", content=IMAGE)
                assert response.status_code == 200, response.text
                self.response_times.append(time.monotonic())
            except httpx.TransportError:
                self.failed.append(request)
            self.in_flight.remove(request)
            await asyncio.sleep(PAUSE_S)

    @property
    def responses(self):
        return len(self.response_times)

    async def until_responses(self, count):
        while self.responses < count:
            await asyncio.sleep(0.001)
            with suppress(StopIteration):
                next(task for task in self._clients if task.done()).result()

    async def stop(self):
        self._stopping = True
        await asyncio.gather(*self._clients)
        await self._client.aclose()


async def test_a_killed_replica_loses_only_its_own_requests_and_is_restarted(two):
    before = series(two, CLASSIFIED)
    survivor = two.replica_pid(1)
    clients = Stream(two, 3)
    await asyncio.sleep(SETTLE_S)  # only then the survivor counts as ready
    await clients.until_responses(clients.responses + 20)
    counts = [await asyncio.to_thread(series, two, CLASSIFIED)]
    held_by_the_killed = set(clients.in_flight)
    os.kill(two.replica_pid(0), signal.SIGKILL)
    killed_at = time.monotonic()
    while await asyncio.to_thread(restarts, two, 0) == 0:
        assert (await asyncio.to_thread(two.get, "/readyz")).status_code == 200, two.log.read_text()
        counts.append(await asyncio.to_thread(series, two, CLASSIFIED))
    await asyncio.to_thread(two.wait_for_replicas)
    await clients.until_responses(clients.responses + 20)
    await clients.stop()
    assert set(clients.failed) <= held_by_the_killed
    uncertain = len(held_by_the_killed)  # a response is counted after its last byte
    lost = sum(killed_at - UNPUBLISHED_S <= at <= killed_at for at in clients.response_times)
    least = before + clients.responses - uncertain - lost
    await wait_for(two, lambda: series(two, CLASSIFIED) >= least)
    counts.append(series(two, CLASSIFIED))
    assert counts == sorted(counts)
    assert counts[-1] <= before + clients.responses + uncertain
    assert two.replica_pid(1) == survivor


async def test_a_replica_that_hangs_is_replaced_while_the_other_responds(two):
    hanging = two.replica_pid(1)
    os.kill(hanging, signal.SIGSTOP)
    for _ in range(20):
        assert (await asyncio.to_thread(two.classify, IMAGE)).status_code == 200
    while await asyncio.to_thread(restarts, two, 1) == 0:
        assert (await asyncio.to_thread(two.classify, IMAGE)).status_code == 200
        await asyncio.sleep(0.02)
    await asyncio.to_thread(two.wait_for_replicas)
    assert two.replica_pid(1) != hanging
    assert "no heartbeat" in two.log.read_text()


async def test_a_replica_that_is_terminated_alone_is_replaced_without_any_error(two, make_crowd):
    crowd = make_crowd(two.url, IMAGE, pause_s=PAUSE_S)
    crowd.start(4)
    await crowd.until_responses(20)
    terminated = two.replica_pid(0)
    os.kill(terminated, signal.SIGTERM)
    await wait_for(two, lambda: two.replica_pid(0) != terminated)
    await asyncio.to_thread(two.wait_for_replicas)
    await crowd.until_responses(len(crowd.responses) + 20)
    await crowd.stop()
    assert (crowd.lost, crowd.refused_at) == ([], [])
    assert {each.status for each in crowd.responses} == {200}


@pytest.mark.slow
def test_after_ctrl_c_all_processes_end_in_order(launch_two):
    with launch_two() as service:
        pids = [service.process.pid, *(service.replica_pid(index) for index in range(2))]
        for pid in pids:  # a terminal signals the whole group
            os.kill(pid, signal.SIGINT)
        assert service.process.wait(60) == 0
        assert all(service.has_ended(pid) for pid in pids)
        assert service.complaints() == []
        assert not service.accepts()


@pytest.mark.slow
def test_after_a_second_signal_all_processes_end_at_once(launch_two):
    with launch_two() as service:
        stopped, other = (service.replica_pid(index) for index in range(2))
        os.kill(stopped, signal.SIGSTOP)  # it would not end in time
        service.process.terminate()
        service.wait_for(lambda: service.has_ended(other))
        service.process.terminate()
        assert service.process.wait(60) == 143
        assert service.has_ended(stopped)


@pytest.mark.slow
def test_a_port_in_use_is_reported_in_one_line(refuse, two):
    ended = refuse("--workers", 2, "--port", httpx.URL(two.url).port)
    assert ended.returncode == 1
    assert ended.stderr.startswith("patchserve: cannot listen on 127.0.0.1:")
    assert "address already in use" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


MOUNT = 'mount -t tmpfs -o size="$SIZE" none "$TMPDIR" && exec "$0" "$@"'
WITH_SMALL_TMPDIR = ["unshare", "-rm", "sh", "-c", MOUNT]
CAN_MOUNT = subprocess.run(
    ["/usr/bin/env", "unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp"],  # noqa: S108
    capture_output=True,
)


@pytest.mark.slow  # tests/app/replicas/test_reserved_files.py has each step of it
@pytest.mark.skipif(CAN_MOUNT.returncode != 0, reason="no file system can be mounted")
def test_a_replica_restarts_while_the_file_system_of_temporary_files_is_full(
    launch, small, tmp_path
):
    program = [*WITH_SMALL_TMPDIR, str(PATCHSERVE)]
    variables = {"SIZE": "8m", "TMPDIR": str(tmp_path)}
    with launch("--workers", 2, *small, program=program, **variables) as service:
        service.wait_for_replicas()
        killed = service.replica_pid(0)
        folder = Path(f"/proc/{killed}/root{tmp_path}")
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(2**12))
        os.kill(killed, signal.SIGKILL)
        service.wait_for(lambda: service.replica_pid(0) != killed)
        service.wait_for_replicas()
        assert restarts(service, 0) == 1
        assert service.classify(IMAGE).status_code == 200


@pytest.mark.skipif(CAN_MOUNT.returncode != 0, reason="no file system can be mounted")
def test_too_little_space_for_temporary_files_ends_the_start_with_one_line(
    serve_command, small, tmp_path
):
    command, environment = serve_command("--workers", 2, "--port", 0, *small)
    ended = subprocess.run(
        [*WITH_SMALL_TMPDIR, *command],
        env=environment | {"SIZE": "1m", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"patchserve: cannot start the replicas: {tmp_path}/patchserve-")
    assert last.endswith("free some space, or set TMPDIR to another folder")
