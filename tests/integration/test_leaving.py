"""Shutdown of the real process: no accepted request is lost, and it ends in bounded time."""

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group(name="timing"),
]
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
IMAGE = SCENE.read_bytes()
CONCURRENCY = 32
LEAVES_WITHIN_S = 10  # 2 on an idle machine


async def rollout(service, crowd, lame_duck_s):
    """Send SIGTERM to a service under load, and check every response and lost request."""
    crowd.start(CONCURRENCY)
    await crowd.until_responses(100)
    signalled_at = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    await crowd.until_refused()
    status, _ = await asyncio.to_thread(service.exit_status)
    assert crowd.lost == []
    assert status == 0
    assert service.complaints() == []
    outcomes = {(each.status, each.code) for each in crowd.responses}
    assert outcomes <= {(200, None), (503, "draining")}
    refusals = [each for each in crowd.responses if each.status == 503]
    assert min(each.received_at for each in refusals) >= signalled_at + lame_duck_s
    assert min(crowd.refused_at) >= signalled_at + lame_duck_s
    assert all("retry-after" in each.headers for each in refusals)
    late = [each for each in crowd.responses if each.sent_at > signalled_at + lame_duck_s / 2]
    assert {each.status for each in late} == {200, 503}
    assert all(each.closes for each in late)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_under_load_no_accepted_request_is_lost(launch, small, make_crowd, workers):
    flags = ("--lame-duck-s", 0.5, "--drain-timeout-s", 3, "--workers", workers)
    with launch(*small, *flags, measured=True) as service:
        replicas = []
        if workers > 1:
            await asyncio.to_thread(service.wait_for_replicas, workers)
            replicas = [service.replica_pid(index) for index in range(workers)]
        await rollout(service, make_crowd(service.url, IMAGE), 0.5)
        assert all(service.has_ended(pid) for pid in replicas)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
async def test_ten_shutdowns_with_the_default_settings(launch, make_crowd, workers):
    for _ in range(10):
        flags = ("--segmenter", "none", "--workers", workers, "--lame-duck-s", 5)
        with launch(*flags) as service:
            await rollout(service, make_crowd(service.url, IMAGE), 5)


async def test_a_lame_duck_without_load_reports_it_and_ends_when_it_is_idle(launch, small, connect):
    with launch(*small, "--lame-duck-s", 2, "--drain-timeout-s", 60) as service:
        async with connect(service.url) as idle, connect(service.url) as probe:
            idle.send("POST", "/classify", IMAGE)
            assert not (await idle.response()).closes
            service.process.terminate()
            await asyncio.to_thread(service.wait_for_status, "/readyz", 503)
            probe.send("GET", "/readyz")
            unready = await probe.response()
            assert (unready.status, unready.closes) == (503, True)
            assert json.loads(unready.body)["reasons"] == ["draining"]
            assert '"ok"' in service.get("/livez").text
            assert "patchserve_draining 1.0" in service.get("/metrics").text
            idle.send("POST", "/classify", IMAGE)
            response = await idle.response()
            assert (response.status, response.closes) == (200, True)
            status, seconds = await asyncio.to_thread(service.exit_status)
    assert status == 0
    assert seconds < 20


async def test_after_the_lame_duck_requests_are_refused_before_their_body(launch, small, connect):
    flags = ("--lame-duck-s", 0, "--drain-timeout-s", 60)
    with launch(*small, *flags) as service:
        async with connect(service.url) as held, connect(service.url) as new:
            held.send("POST", "/classify", IMAGE[:100], length=len(IMAGE))  # keeps it from ending
            await asyncio.to_thread(service.wait_for_text, "/metrics", "in_flight 2.0")
            service.process.terminate()
            await asyncio.to_thread(service.wait_for_status, "/readyz", 503)
            new.send("POST", "/classify", b"", length=len(IMAGE))
            refused = await new.response()
            assert (refused.status, refused.code, refused.closes) == (503, "draining", True)
            assert '"ok"' in service.get("/livez").text
            held.writer.write(IMAGE[100:])
            assert (await held.response()).status == 200
            assert (await asyncio.to_thread(service.exit_status))[0] == 0
    assert service.complaints() == []


@pytest.mark.slow
async def test_an_upload_that_stops_does_not_delay_the_end_for_ever(launch, small, connect):
    flags = ("--lame-duck-s", 0, "--drain-timeout-s", 1)
    with launch(*small, *flags) as service:
        async with connect(service.url) as held:
            held.send("POST", "/classify", IMAGE[:100], length=len(IMAGE))
            await asyncio.to_thread(service.wait_for_text, "/metrics", "in_flight 2.0")
            service.process.terminate()
            response = await held.response()
            assert (response.status, response.code) == (503, "draining")
            status, seconds = await asyncio.to_thread(service.exit_status)
    assert status == 0
    assert any("1 requests are abandoned" in one["message"] for one in service.complaints())
    assert seconds < 10


@pytest.fixture
def silent_hub():
    """The address of a hub that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("workers", "sig"),
    [
        (1, signal.SIGINT),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_during_a_stuck_download_it_ends_at_once(launch, silent_hub, workers, sig):
    flags = ("--workers", workers, "--segmenter", "none", "--classifier", "some/checkpoint")
    with launch(*flags, ready=False, HF_ENDPOINT=silent_hub) as service:
        service.wait_for_status("/livez", 200)
        service.wait_for_text("/readyz", "loading")
        service.process.send_signal(sig)
        status, seconds = service.exit_status()
    assert (status, service.complaints()) == (0, [])
    assert seconds < LEAVES_WITHIN_S


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_during_the_warm_up_it_ends_at_once(launch, workers):
    with launch("--workers", workers, ready=False) as service:
        service.wait_for_status("/livez", 200)
        service.wait_for_text("/readyz", "warming_up")
        service.process.terminate()
        status, seconds = service.exit_status()
    assert (status, service.complaints()) == (0, [])
    assert seconds < LEAVES_WITHIN_S


def is_importing_torch(pid):
    """Whether the process has begun to load torch's libraries."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="imports cannot be observed")
def test_while_torch_is_imported_it_ends_at_once(launch):
    with launch(ready=False) as service:
        service.wait_for(lambda: is_importing_torch(service.process.pid))
        service.process.terminate()
        status, seconds = service.exit_status()
    assert (status, service.log.read_text().count("Traceback")) == (0, 0)
    assert seconds < LEAVES_WITHIN_S


def test_while_replicas_import_torch_they_end_at_once(launch):
    """The parent opens the port before the replicas have imported anything."""
    with launch("--workers", 2, ready=False) as service:
        service.wait_for(lambda: "listening on" in service.log.read_text())
        service.process.terminate()
        status, seconds = service.exit_status()
    assert (status, service.log.read_text().count("Traceback")) == (0, 0)
    assert seconds < LEAVES_WITHIN_S


@pytest.mark.parametrize(
    ("sig", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
async def test_the_second_signal_ends_it_while_torch_computes(launch, connect, sig, status):
    with launch("--segmenter", "none", "--lame-duck-s", 60) as service:
        async with connect(service.url) as busy:
            for _ in range(200):
                busy.send("POST", "/classify", IMAGE)
            await busy.response()
            service.process.terminate()
            await asyncio.to_thread(service.wait_for_status, "/readyz", 503)
            service.process.send_signal(sig)
            assert (await asyncio.to_thread(service.exit_status))[0] == status


async def test_a_service_manager_may_signal_every_process(launch, small, make_crowd):
    flags = ("--workers", 2, "--lame-duck-s", 0.5, "--drain-timeout-s", 3)
    with launch(*small, *flags, measured=True) as service:
        await asyncio.to_thread(service.wait_for_replicas)
        crowd = make_crowd(service.url, IMAGE)
        crowd.start(CONCURRENCY)
        await crowd.until_responses(100)
        for pid in (service.replica_pid(0), service.replica_pid(1), service.process.pid):
            os.kill(pid, signal.SIGTERM)
        await crowd.until_refused()
        assert (await asyncio.to_thread(service.exit_status))[0] == 0
    assert crowd.lost == []
    assert service.complaints() == []


@pytest.mark.slow  # the test above ends the same replicas, which drain on their own
async def test_replicas_whose_parent_died_lose_no_request_and_end(launch, small, make_crowd):
    flags = ("--workers", 2, "--lame-duck-s", 0.5, "--drain-timeout-s", 3)
    with launch(*small, *flags) as service:
        await asyncio.to_thread(service.wait_for_replicas)
        crowd = make_crowd(service.url, IMAGE)
        crowd.start(CONCURRENCY)
        await crowd.until_responses(100)
        service.process.kill()
        await crowd.until_refused()
        await asyncio.to_thread(service.wait_for, lambda: not service.accepts())
    assert crowd.lost == []
    outcomes = {(each.status, each.code) for each in crowd.responses}
    assert outcomes == {(200, None), (503, "draining")}
