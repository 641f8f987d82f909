"""Leaving: nothing that was taken is lost, in bounded time, and whoever is told twice obeys."""

import asyncio
import json
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
IMAGE = SCENE.read_bytes()
CONCURRENCY = 32
SMALL = ("--segmenter", "none")
DEFAULT_LAME_DUCK_S = 5.0


def lines(service):
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def complaints(service):
    return [line for line in lines(service) if line["level"] not in ("info", "debug")]


def said(service, words):
    return any(words in line["message"] for line in lines(service))


async def until_said(service, words):
    while not said(service, words):
        await asyncio.sleep(0.005)


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


@pytest.mark.parametrize("workers", [1, 2])
async def test_under_load_nothing_that_was_taken_is_lost(launch, make_crowd, workers):
    flags = (*SMALL, "--lame-duck-s", 0.5, "--drain-timeout-s", 1, "--workers", workers)
    for _ in range(2):
        with launch(*flags) as service:
            await rollout(service, make_crowd(service.url, IMAGE), 0.5)
