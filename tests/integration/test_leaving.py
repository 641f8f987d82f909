"""Leaving: nothing that was taken is lost, in bounded time, and whoever is told twice obeys."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
IMAGE = SCENE.read_bytes()
CONCURRENCY = 32
SMALL = ("--segmenter", "none")


def lines(service):
    return [json.loads(line) for line in service.log_lines()]


def complaints(service):
    return [line for line in lines(service) if line["level"] not in ("info", "debug")]


def said(service, words):
    return any(words in line["message"] for line in lines(service))


async def until_said(service, words):
    while not said(service, words):  # noqa: ASYNC110  # a log is no event
        await asyncio.sleep(0.005)


async def text(service, path):
    return (await asyncio.to_thread(httpx.get, service.url + path, timeout=60)).text


async def until_text(service, path, words):
    while words not in await text(service, path):
        pass


async def ended(service):
    """The exit status, and how long it took from now."""
    began = time.monotonic()
    status = await asyncio.to_thread(service.process.wait, 60)
    return status, time.monotonic() - began


async def rollout(service, crowd, lame_duck_s):
    """Tell a loaded service to leave, and look after everyone who asks it."""
    crowd.start(CONCURRENCY)
    await crowd.until_answered(100)
    told = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    await crowd.until_refused()
    status, _ = await ended(service)
    assert crowd.lost == []
    assert status == 0
    assert complaints(service) == []
    assert {(each.status, each.code) for each in crowd.answers} <= {(200, None), (503, "draining")}
    refusals = [each for each in crowd.answers if each.status == 503]
    assert min(each.came for each in refusals) >= told + lame_duck_s
    assert min(crowd.refused) >= told + lame_duck_s
    assert all("retry-after" in each.headers for each in refusals)
    meanwhile = [each for each in crowd.answers if each.sent > told + lame_duck_s / 2]
    assert {each.status for each in meanwhile} == {200, 503}
    assert all(each.closes for each in meanwhile)
    return crowd


@pytest.mark.parametrize(("workers", "rounds"), [(1, 2), (2, 1)])
async def test_under_load_nothing_that_was_taken_is_lost(launch, make_crowd, workers, rounds):
    flags = (*SMALL, "--lame-duck-s", 0.5, "--drain-timeout-s", 1, "--workers", workers)
    for _ in range(rounds):
        with launch(*flags) as service:
            await rollout(service, make_crowd(service.url, IMAGE), 0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
async def test_ten_times_with_the_default_settings(launch, make_crowd, workers):
    for _ in range(10):
        with launch(*SMALL, "--workers", workers, "--lame-duck-s", 5) as service:
            await rollout(service, make_crowd(service.url, IMAGE), 5)


async def test_without_load_a_lame_duck_tells_the_truth_and_leaves_when_it_is_quiet(
    launch, connect
):
    with launch(*SMALL, "--lame-duck-s", 2, "--drain-timeout-s", 60) as service:
        async with connect(service.url) as idle, connect(service.url) as probe:
            idle.send("POST", "/classify", IMAGE)
            assert not (await idle.answer()).closes
            service.process.terminate()
            await until_said(service, "shutdown requested")
            probe.send("GET", "/readyz")
            unready = await probe.answer()
            assert (unready.status, unready.closes) == (503, True)
            assert json.loads(unready.body)["reasons"] == ["draining"]
            assert '"ok"' in await text(service, "/livez")
            assert "patchserve_draining 1.0" in await text(service, "/metrics")
            idle.send("POST", "/classify", IMAGE)
            answer = await idle.answer()
            assert (answer.status, answer.closes) == (200, True)
            status, seconds = await ended(service)
    assert status == 0
    assert seconds < 20


async def test_after_the_lame_duck_work_is_refused_before_its_body_comes(launch, connect):
    flags = ("--lame-duck-s", 0, "--drain-timeout-s", 60)
    with launch(*SMALL, *flags) as service:
        async with connect(service.url) as held, connect(service.url) as new:
            held.send("POST", "/classify", IMAGE[:100], length=len(IMAGE))  # it holds the service
            await until_text(service, "/metrics", "in_flight 2.0")
            service.process.terminate()
            await until_said(service, "shutdown requested")
            new.send("POST", "/classify", b"", length=len(IMAGE))
            refused = await new.answer()
            assert (refused.status, refused.code, refused.closes) == (503, "draining", True)
            assert '"ok"' in await text(service, "/livez")
            held.writer.write(IMAGE[100:])
            assert (await held.answer()).status == 200
            assert (await ended(service))[0] == 0
    assert complaints(service) == []


async def test_who_stops_in_the_middle_does_not_hold_it_for_ever(launch, connect):
    flags = ("--lame-duck-s", 0, "--drain-timeout-s", 1)
    with launch(*SMALL, *flags) as service:
        async with connect(service.url) as held:
            held.send("POST", "/classify", IMAGE[:100], length=len(IMAGE))
            await until_text(service, "/metrics", "in_flight 2.0")
            service.process.terminate()
            answer = await held.answer()
            assert (answer.status, answer.code) == (503, "draining")
            status, seconds = await ended(service)
    assert (status, said(service, "1 requests are abandoned")) == (0, True)
    assert seconds < 10


@pytest.fixture
def silent_hub():
    """The address of a hub that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


LEAVES_WITHIN_S = 10  # 2 on a machine with nothing else to do


@pytest.mark.parametrize(
    ("workers", "sig"), [(1, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGTERM)]
)
async def test_while_a_download_is_stuck_it_leaves_at_once(launch, silent_hub, workers, sig):
    flags = ("--workers", workers, *SMALL, "--classifier", "somebody/something")
    with launch(*flags, ready=False, HF_ENDPOINT=silent_hub) as service:
        service.until("/livez", 200)
        await until_text(service, "/readyz", "loading")
        service.process.send_signal(sig)
        status, seconds = await ended(service)
    assert (status, complaints(service)) == (0, [])
    assert seconds < LEAVES_WITHIN_S


@pytest.mark.parametrize("workers", [1, 2])
async def test_while_torch_warms_up_it_leaves_at_once(launch, workers):
    with launch("--workers", workers, ready=False) as service:
        service.until("/livez", 200)
        await until_text(service, "/readyz", "warming_up")
        service.process.terminate()
        status, seconds = await ended(service)
    assert (status, complaints(service)) == (0, [])
    assert seconds < LEAVES_WITHIN_S


@pytest.mark.parametrize("workers", [1, 2])
async def test_while_torch_is_imported_it_leaves_at_once(launch, workers):
    """The port is open in the parent of replicas while they import it."""
    with launch("--workers", workers, ready=False) as service:
        await asyncio.sleep(0.5)  # the interpreter is up; there is nothing to be seen of it
        service.process.terminate()
        status, seconds = await ended(service)
    assert (status, service.log.read_text().count("Traceback")) == (0, 0)
    assert seconds < LEAVES_WITHIN_S


@pytest.mark.parametrize(("sig", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_the_second_signal_ends_it_while_torch_computes(launch, connect, sig, status):
    with launch(*SMALL, "--lame-duck-s", 60) as service:
        async with connect(service.url) as busy:
            for _ in range(200):
                busy.send("POST", "/classify", IMAGE)
            await busy.answer()
            service.process.terminate()
            await until_said(service, "shutdown requested")
            service.process.send_signal(sig)
            assert (await ended(service))[0] == status


def processes(service):
    """The numbers of the replicas' processes."""
    said = [line["message"] for line in lines(service)]
    return [int(found[1]) for line in said if (found := re.match(r"Started .*\[(\d+)\]", line))]


async def until_both_are_ready(service):
    while set(json.loads(await text(service, "/readyz"))["replicas"].values()) != {"ready"}:
        assert service.process.poll() is None


async def test_a_service_manager_may_tell_every_process(launch, make_crowd):
    flags = (*SMALL, "--workers", 2, "--lame-duck-s", 0.5, "--drain-timeout-s", 1)
    with launch(*flags) as service:
        await until_both_are_ready(service)
        crowd = make_crowd(service.url, IMAGE)
        crowd.start(CONCURRENCY)
        await crowd.until_answered(100)
        for each in (*processes(service), service.process.pid):
            os.kill(each, signal.SIGTERM)
        await crowd.until_refused()
        assert (await ended(service))[0] == 0
    assert crowd.lost == []
    assert complaints(service) == []


async def test_without_their_parent_the_replicas_lose_nothing(launch, make_crowd):
    flags = (*SMALL, "--workers", 2, "--lame-duck-s", 0.5, "--drain-timeout-s", 1)
    with launch(*flags) as service:
        await until_both_are_ready(service)
        crowd = make_crowd(service.url, IMAGE)
        crowd.start(CONCURRENCY)
        await crowd.until_answered(100)
        service.process.kill()
        await crowd.until_refused()
    assert crowd.lost == []
    assert {(each.status, each.code) for each in crowd.answers} == {(200, None), (503, "draining")}


async def test_a_replica_that_is_told_alone_is_replaced_and_nobody_notices(launch, make_crowd):
    flags = (*SMALL, "--workers", 2, "--lame-duck-s", 0.5, "--drain-timeout-s", 30)
    with launch(*flags) as service:
        await until_both_are_ready(service)
        crowd = make_crowd(service.url, IMAGE)
        crowd.start(4)
        await crowd.until_answered(20)
        os.kill(processes(service)[0], signal.SIGTERM)
        await until_said(service, "ended with status 0; restarting it in 0 s")
        await until_both_are_ready(service)
        await crowd.until_answered(len(crowd.answers) + 20)
        await crowd.stop()
    assert (crowd.lost, crowd.refused) == ([], [])
    assert {each.status for each in crowd.answers} == {200}


BREAKING = """
import asyncio
from app import lifespan, main
from app.__main__ import cli

start = lifespan.start

async def start_and_break(deployments, shutdown, on_fatal):
    await start(deployments, shutdown, on_fatal)
    await asyncio.sleep(1)
    on_fatal(RuntimeError("CUDA error: an illegal\\n memory access"))

lifespan.start = start_and_break
if __name__ == "__main__":
    cli()
"""


@pytest.fixture
def breaking(tmp_path):
    """The service on a device that is lost a second after it was ready."""
    script = tmp_path / "breaking.py"
    script.write_text(BREAKING)
    return [sys.executable, str(script)]


async def test_a_service_that_cannot_go_on_ends_with_4_and_one_line(launch, connect, breaking):
    with launch(*SMALL, program=breaking) as service:
        async with connect(service.url) as held:
            held.send("POST", "/classify", IMAGE[:100], length=len(IMAGE))
            answer = await held.answer()
        assert (answer.status, answer.code) == (503, "not_ready")
        status, seconds = await ended(service)
    assert status == 4
    assert seconds < LEAVES_WITHIN_S
    last = service.log_lines()[-1]
    assert last == "patchserve: cannot continue: CUDA error: an illegal memory access"


async def test_a_replica_that_cannot_go_on_is_replaced(launch, breaking):
    with launch(*SMALL, "--workers", 2, ready=False, program=breaking) as service:
        for index in range(2):
            await until_said(service, f"replica {index} ended with status 4")
        while len(processes(service)) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
