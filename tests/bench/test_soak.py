"""bench.soak: its kinds of requests, unexpected responses, and the verdict."""

import asyncio
import json
from io import BytesIO

import pytest
from PIL import Image

from bench import soak
from bench.common.cpu import UsageDelta
from bench.common.resources import ResourceSample
from bench.soaking import kinds, pictures, report
from bench.soaking.client import Client, Response
from bench.soaking.kinds import Kind
from bench.soaking.plot import draw
from bench.soaking.report import SoakResult
from bench.soaking.tally import Tally, fault
from bench.soaking.traffic import BURST_EVERY_S, schedule

WORK = Kind("work", 1, [kinds.post("/classify", b"x")], {200: ""})
BAD = Kind("bad", 1, [kinds.post("/classify", b"x")], {422: "invalid_image"})
OK = Response(200, "application/json", b"HTTP/1.1 200 OK\r\n", b"{}")


def problem(status, code, *headers, **more):
    body = json.dumps({"status": status, "code": code, **more}).encode()
    return Response(status, "application/problem+json", b"\r\n".join([b"HTTP/1.1", *headers]), body)


BUSY = problem(503, "overloaded", b"Retry-After: 1", b"", retry_after_ms=900)


@pytest.fixture(scope="module")
def every():
    return kinds.every()


def test_an_expected_response_is_no_fault():
    assert fault(WORK, OK, busy=False) == ""
    assert fault(BAD, problem(422, "invalid_image"), busy=False) == ""


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        (WORK, problem(500, "internal")),
        (WORK, OK._replace(media="text/html")),
        (WORK, OK._replace(body=b"")),
        (WORK, Response(0, "", b"", b"TimeoutError")),
        (BAD, OK),
        (BAD, problem(422, "invalid_parameter")),
        (BAD, problem(422, "invalid_image")._replace(media="application/json")),
        (BAD, Response(422, "application/problem+json", b"", b"not JSON")),
    ],
)
def test_any_other_response_is_a_fault_even_during_a_burst(kind, response):
    assert fault(kind, response, busy=True)


def test_a_complete_refusal_of_work_is_expected_during_a_burst():
    assert fault(WORK, BUSY, busy=True) == ""
    assert "overloaded" in fault(WORK, BUSY, busy=False)
    assert "overloaded" in fault(WORK, BUSY._replace(head=b"HTTP/1.1"), busy=True)


def test_responses_are_counted_by_kind_and_by_second():
    tally = Tally()
    for at, kind, response, wrong in [
        (0.2, WORK, OK, ""),
        (0.9, WORK, BUSY, ""),
        (1.5, BAD, problem(422, "invalid_image"), ""),
        (1.6, BAD, OK, "200 {}"),
    ]:
        tally.add(kind, at, 0.01, response, wrong)
    tally.disconnected(BAD, 1.7)
    tally.failed(WORK, 1.8, ConnectionRefusedError())
    report_ = json.loads(json.dumps(tally.report()))
    assert [second[:5] for second in report_["seconds"]] == [[0, 1, 1, 0, 0], [1, 0, 0, 2, 2]]
    assert report_["kinds"][0] == ["work", {"200": 1, "503": 1, "lost": 1}, 10.0, 10.0]
    assert report_["unexpected"] == 2
    assert report_["examples"] == ["2 s: bad: 200 {}", "2 s: work: ConnectionRefusedError()"]


def test_every_kind_has_requests_expected_responses_and_a_unique_name(every):
    assert len({kind.name for kind in every}) == len(every)
    for kind in every:
        assert kind.expected or kind.sending.startswith("disconnects")
        for request in kind.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            exact = b"Content-Length: %d" % len(body) in head or not body or b"chunked" in head
            assert exact or kind.sending == "incomplete"


def test_only_requests_for_results_are_work(every):
    work = {kind.name for kind in every if kind.work}
    assert {"classify, raw", "segment, mask", "explain, JSON"} <= work
    assert not work & {"probe", "not an image", "disconnects waiting", "slow upload"}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of a truncated TIFF
def test_good_pictures_decode_and_truncated_ones_do_not():
    files = pictures.good()
    for data in files.values():
        Image.open(BytesIO(data)).convert("RGB")
    for data in [*pictures.truncated(files), *pictures.corrupt(files)]:
        with pytest.raises((OSError, SyntaxError)):
            Image.open(BytesIO(data)).load()


def test_bursts_come_at_regular_times_between_random_requests():
    times = list(schedule(10.0, 3.5 * BURST_EVERY_S, seed=0))
    assert [at for at, burst in times if burst] == [BURST_EVERY_S * n for n in (1, 2, 3)]
    assert [at for at, _ in times] == sorted(at for at, _ in times)


def with_server(answer, act):
    """Run `act` with a client of a server whose connections `answer` handles."""

    async def both():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        async with server:
            try:
                return await act(client)
            finally:
                client.close()

    return asyncio.run(both())


async def echo(reader, writer):
    """Respond to each request with its own body."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: a/b; c=d\r\nContent-Length: {length}\r\n\r\n"
            writer.write(head.encode() + body)
    except EOFError:
        pass
    finally:
        writer.close()


def test_whole_and_slow_requests_use_the_same_connection():
    opened = []

    async def answer(reader, writer):
        opened.append(writer)
        await echo(reader, writer)

    async def act(client):
        request = kinds.post("/", b"body")
        return [await client.send(request), await client.send_slowly(request, 0.02)]

    responses = with_server(answer, act)
    assert [(response.status, response.media, response.body) for response in responses] == [
        (200, "a/b", b"body")
    ] * 2
    assert len(opened) == 1


def test_an_incomplete_request_is_followed_by_a_disconnect():
    ended = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()
        ended.set()
        writer.close()

    async def act(client):
        response = await client.send_incomplete(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        return response

    assert with_server(answer, act).status == 413


def test_a_connection_closed_without_a_response_is_a_lost_request():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    response = with_server(answer, lambda client: client.send(kinds.post("/", b"")))
    assert (response.status, b"IncompleteReadError" in response.body) == (0, True)


@pytest.mark.parametrize(("part", "whole"), [(0.5, False), (1.0, True)])
def test_a_client_disconnects_after_a_part_of_its_request(part, whole):
    request, came, ended = kinds.post("/", b"x" * 1000), [], asyncio.Event()

    async def answer(reader, writer):
        while data := await reader.read(65536):
            came.append(data)
        ended.set()
        writer.close()

    async def act(client):
        await client.disconnect(request, part, 0.0)
        await asyncio.wait_for(ended.wait(), 10)

    with_server(answer, act)
    assert (b"".join(came) == request) is whole
    assert request.startswith(b"".join(came))


@pytest.fixture
def result():
    samples = [ResourceSample(float(at), 700.0 + at % 2, 30, 50) for at in range(300)]
    share = UsageDelta(300.0, {"service": 300.0, "traffic": 30.0}, 0.01)
    seconds = [[at, 90, 3, 50, 0, 20.0, 200.0] for at in range(300)]
    counted = [("classify, raw", {"200": 900, "503": 3}, 20.0, 200.0)]
    return SoakResult(1.0, 150.0, 155.0, samples, share, counted, seconds, 0, [], [])


def test_the_soak_passes_with_constant_memory_and_expected_responses(result):
    assert result.passed
    assert any(line.startswith("**Passed**") for line in report.lines(result))


@pytest.mark.parametrize("what", ["grows", "unexpected"])
def test_the_soak_fails_otherwise_with_examples(result, what):
    grown = [one._replace(rss=one.rss + one.at / 60) for one in result.samples]
    changed = {"grows": {"samples": grown}, "unexpected": {"unexpected": 1, "examples": ["why"]}}
    failed = result._replace(**changed[what])
    assert not failed.passed
    lines = report.lines(failed)
    assert any(line.startswith("**Failed**") for line in lines)
    assert ("- `why`" in lines) is (what == "unexpected")


def test_growth_during_the_warm_up_does_not_count(result):
    early = [one._replace(rss=one.rss - max(60 - one.at, 0)) for one in result.samples]
    assert result._replace(samples=early).passed


def test_the_warm_up_is_a_fifth_of_the_run_but_at_most_five_minutes():
    minutes = [["--minutes", "3"], [], ["--minutes", "60"], ["--warm-up", "2"]]
    assert [soak.parsed(given).warm_up for given in minutes] == [pytest.approx(0.6), 4, 5, 2]


def test_the_plot_is_drawn(result, tmp_path):
    draw(result, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
