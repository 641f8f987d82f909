"""Hostile images and bodies, sent to the real process: clear refusals and no lasting effect."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.hostile import jpeg, others, png, tiff
from tests.hostile.bodies import bodies
from tests.hostile.case import SIDE, drawn
from tests.hostile.client import (
    LONGEST_S,
    REQUESTS,
    Findings,
    documented,
    resident_mb,
    send,
    send_mutants,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group(name="bundled"),  # they share a service
]
FORMATS = {"jpeg": jpeg.cases, "png": png.cases, "tiff": tiff.cases, "others": others.cases}
QUICK = 400  # mutants
MANY = 20_000


@pytest.fixture(scope="module")
def service(bundled) -> Iterator[object]:
    """The shared service; these tests add only records of level info to its log."""
    before = len(bundled.log_lines())
    yield bundled
    added = bundled.log_lines()[before:]
    records = [json.loads(line) for line in added if line[:1] == "{"]  # libtiff writes lines too
    assert records
    assert [record for record in records if record["level"] != "info"] == []
    assert not any("Traceback" in line for line in added)


@pytest.fixture
async def client(service):
    """A client that also checks that valid requests get the same responses after the test."""
    async with httpx.AsyncClient(base_url=service.url, timeout=LONGEST_S) as client:
        before = await valid_requests(client)
        yield client
        assert await valid_requests(client) == before


async def valid_requests(client) -> list[bytes]:
    responses = [await client.post(path, content=drawn("PNG")) for path, _ in REQUESTS]
    assert {response.status_code for response in responses} == {200}
    return [response.content for response in responses]


@pytest.fixture
async def findings(client):
    findings = Findings(await documented(client))
    yield findings
    assert findings.faults == []


@pytest.mark.parametrize("format_", FORMATS)
async def test_files_that_cost_more_than_their_size_get_a_response_in_time(
    client, findings, format_
):
    wrong = []
    for case in FORMATS[format_]():
        code = await send(client, findings, case.name, case.data)
        if case.code not in (None, code):
            wrong.append((case.name, code))
    assert wrong == []
    assert sum(findings.codes.values()) > 20


async def test_hostile_bodies_around_valid_images(client, findings):
    wrong = []
    for body in bodies():
        code = await send(client, findings, body.name, body.content, body.headers)
        if code not in body.codes:
            wrong.append((body.name, code))
    assert wrong == []
    assert {"200 ok", "400 malformed_request", "415 unsupported_image_format"} <= set(
        findings.codes
    )


async def test_the_largest_images_leave_no_memory_behind(client, findings):
    largest = [png.black(SIDE, SIDE), jpeg.scans(SIDE, 10), png.black(SIDE, SIDE, bits=16, color=6)]
    before = await resident_mb(client)
    overlay = REQUESTS[4]  # it keeps the image until the end
    for data in largest:
        assert await send(client, findings, "the largest", data, request=overlay) == "ok"
    assert await resident_mb(client) - before < 100


async def test_mutants_get_a_result_or_a_documented_error(client, findings):
    await send_mutants(client, findings, range(QUICK))
    assert {"200 ok", "422 invalid_image"} <= set(findings.codes)


@pytest.mark.slow
async def test_many_mutants_get_a_result_or_a_documented_error(client, findings):
    before = await resident_mb(client)
    await send_mutants(client, findings, range(MANY))
    assert sum(findings.codes.values()) == MANY
    assert await resident_mb(client) - before < 100
