"""Hostile images and bodies, sent to a real process: clear refusals, and nothing is worse after."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.hostile import jpeg, others, png, tiff
from tests.hostile.asking import (
    ASKED,
    LONGEST_S,
    Findings,
    ask,
    documented,
    resident_mb,
    send_mutants,
)
from tests.hostile.bodies import bodies
from tests.hostile.case import SIDE, drawn

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
FORMATS = {"jpeg": jpeg.cases, "png": png.cases, "tiff": tiff.cases, "others": others.cases}
QUICK = 1_500  # mutants
MANY = 20_000


@pytest.fixture(scope="module")
def service(launch) -> Iterator[object]:
    with launch() as service:
        yield service
    levels = [json.loads(line) for line in service.log_lines() if line[:1] == "{"]
    assert levels
    assert [line for line in levels if line["level"] != "info"] == []
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
async def client(service):
    """One that finds the service as right after the test as it was before it."""
    async with httpx.AsyncClient(base_url=service.url, timeout=LONGEST_S) as client:
        before = await honest(client)
        yield client
        assert await honest(client) == before


async def honest(client) -> list[bytes]:
    answers = [await client.post(path, content=drawn("PNG")) for path, _ in ASKED]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


@pytest.fixture
async def findings(client):
    findings = Findings(await documented(client))
    yield findings
    assert findings.faults == []


@pytest.mark.parametrize("format_", FORMATS)
async def test_what_costs_more_than_it_looks_is_answered_in_time(client, findings, format_):
    wrong = []
    for case in FORMATS[format_]():
        code = await ask(client, findings, case.name, case.data)
        if case.code not in (None, code):
            wrong.append((case.name, code))
    assert wrong == []
    assert sum(findings.codes.values()) > 20


async def test_bodies_that_are_hostile_around_their_image(client, findings):
    wrong = []
    for body in bodies():
        code = await ask(client, findings, body.name, body.content, body.headers)
        if code not in body.codes:
            wrong.append((body.name, code))
    assert wrong == []
    assert {"200 ok", "400 malformed_request", "415 unsupported_image_format"} <= set(
        findings.codes
    )


async def test_the_largest_images_leave_no_memory_behind(client, findings):
    largest = [png.black(SIDE, SIDE), jpeg.scans(SIDE, 10), png.black(SIDE, SIDE, bits=16, color=6)]
    before = await resident_mb(client)
    for data in largest:
        for way in (ASKED[0], ASKED[4]):  # as an overlay it is kept until it is drawn over
            assert await ask(client, findings, "the largest", data, way=way) == "ok"
    assert await resident_mb(client) - before < 100


async def test_mutants_are_answered_or_refused(client, findings):
    await send_mutants(client, findings, range(QUICK))
    assert {"200 ok", "422 invalid_image"} <= set(findings.codes)


@pytest.mark.slow
async def test_many_mutants_are_answered_or_refused(client, findings):
    before = await resident_mb(client)
    await send_mutants(client, findings, range(MANY))
    assert sum(findings.codes.values()) == MANY
    assert await resident_mb(client) - before < 100
