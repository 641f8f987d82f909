"""The soak: its kinds of requests, what counts as unexpected, and its verdict."""

import asyncio
import json
from io import BytesIO

import pytest
from PIL import Image

from bench import soak
from bench.common.cpu import Share
from bench.common.resources import Held
from bench.soaking import kinds, pictures, report
from bench.soaking.client import Client, Reply
from bench.soaking.kinds import Kind
from bench.soaking.plot import draw
from bench.soaking.report import Found
from bench.soaking.tally import Tally, fault
from bench.soaking.traffic import BURST_EVERY_S, schedule

GOOD = Kind("good", 1, [kinds.post("/classify", b"x")], {200: ""})
BAD = Kind("bad", 1, [kinds.post("/classify", b"x")], {422: "invalid_image"})
FINE = Reply(200, "application/json", b"HTTP/1.1 200 OK\r\n", b"{}")


def problem(status, code, *headers, **more):
    body = json.dumps({"status": status, "code": code, **more}).encode()
    return Reply(status, "application/problem+json", b"\r\n".join([b"HTTP/1.1", *headers]), body)


BUSY = problem(503, "overloaded", b"Retry-After: 1", b"", retry_after_ms=900)


@pytest.fixture(scope="module")
def every():
    return kinds.every()


def test_the_right_answer_of_a_kind_is_no_fault():
    assert fault(GOOD, FINE, busy=False) == ""
    assert fault(BAD, problem(422, "invalid_image"), busy=False) == ""


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (GOOD, problem(500, "internal")),
        (GOOD, FINE._replace(media="text/html")),
        (GOOD, FINE._replace(body=b"")),
        (GOOD, Reply(0, "", b"", b"TimeoutError")),
        (BAD, FINE),
        (BAD, problem(422, "invalid_parameter")),
        (BAD, problem(422, "invalid_image")._replace(media="application/json")),
        (BAD, Reply(422, "application/problem+json", b"", b"not JSON")),
    ],
)
def test_any_other_answer_is_a_fault_even_during_a_burst(kind, reply):
    assert fault(kind, reply, busy=True)


def test_who_asks_for_work_during_a_burst_may_be_refused_if_told_when_to_come_again():
    assert fault(GOOD, BUSY, busy=True) == ""
    assert "overloaded" in fault(GOOD, BUSY, busy=False)
    assert "overloaded" in fault(GOOD, BUSY._replace(head=b"HTTP/1.1"), busy=True)


def test_what_is_counted_by_kind_and_by_second():
    tally = Tally()
    for at, kind, reply, wrong in [
        (0.2, GOOD, FINE, ""),
        (0.9, GOOD, BUSY, ""),
        (1.5, BAD, problem(422, "invalid_image"), ""),
        (1.6, BAD, FINE, "200 {}"),
    ]:
        tally.add(kind, at, 0.01, reply, wrong)
    tally.left(BAD, 1.7)
    tally.failed(GOOD, 1.8, ConnectionRefusedError())
    told = json.loads(json.dumps(tally.told()))
    assert [second[:5] for second in told["seconds"]] == [[0, 1, 1, 0, 0], [1, 0, 0, 2, 2]]
    assert told["kinds"][0] == ["good", {"200": 1, "503": 1, "lost": 1}, 10.0, 10.0]
    assert told["unexpected"] == 2
    assert told["examples"] == ["2 s: bad: 200 {}", "2 s: good: ConnectionRefusedError()"]


def test_every_kind_is_a_request_with_expected_answers_and_a_name_of_its_own(every):
    assert len({kind.name for kind in every}) == len(every)
    for kind in every:
        assert kind.expected or kind.way.startswith("leaves")
        for request in kind.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            exact = b"Content-Length: %d" % len(body) in head or not body or b"chunked" in head
            assert exact or kind.way == "halting"


def test_only_who_asks_for_work_and_waits_for_it_is_good(every):
    good = {kind.name for kind in every if kind.good}
    assert {"classify, raw", "segment, mask", "explain, JSON"} <= good
    assert not good & {"probe", "no image", "leaves waiting", "uploading slowly"}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of a truncated TIFF
def test_good_pictures_decode_and_truncated_ones_do_not():
    files = pictures.good()
    for data in files.values():
        Image.open(BytesIO(data)).convert("RGB")
    for data in [*pictures.truncated(files), *pictures.corrupt(files)]:
        with pytest.raises((OSError, SyntaxError)):
            Image.open(BytesIO(data)).load()


def test_bursts_come_at_even_distances_between_random_arrivals():
    times = list(schedule(10.0, 3.5 * BURST_EVERY_S, seed=0))
    assert [at for at, burst in times if burst] == [BURST_EVERY_S * n for n in (1, 2, 3)]
    assert [at for at, _ in times] == sorted(at for at, _ in times)


def with_server(answer, act):
    """What `act` makes of a client whose server's connections are handled by `answer`."""

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
    """Answer each request with the body it had."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            told = f"HTTP/1.1 200 OK\r\nContent-Type: a/b; c=d\r\nContent-Length: {length}\r\n\r\n"
            writer.write(told.encode() + body)
    except EOFError:
        pass
    finally:
        writer.close()


def test_requests_at_once_or_slow_are_answered_over_one_connection():
    opened = []

    async def answer(reader, writer):
        opened.append(writer)
        await echo(reader, writer)

    async def act(client):
        request = kinds.post("/", b"body")
        return [await client.whole(request), await client.slowly(request, 0.02)]

    replies = with_server(answer, act)
    assert [(reply.status, reply.media, reply.body) for reply in replies] == [
        (200, "a/b", b"body")
    ] * 2
    assert len(opened) == 1


def test_who_promised_more_than_was_sent_hangs_up_behind_the_answer():
    ended = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()
        ended.set()
        writer.close()

    async def act(client):
        reply = await client.halting(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        return reply

    assert with_server(answer, act).status == 413


def test_a_server_that_says_nothing_and_leaves_is_a_lost_request():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    reply = with_server(answer, lambda client: client.whole(kinds.post("/", b"")))
    assert (reply.status, b"IncompleteReadError" in reply.body) == (0, True)


@pytest.mark.parametrize(("part", "whole"), [(0.5, False), (1.0, True)])
def test_who_leaves_has_sent_so_much(part, whole):
    request, came, ended = kinds.post("/", b"x" * 1000), [], asyncio.Event()

    async def answer(reader, writer):
        while data := await reader.read(65536):
            came.append(data)
        ended.set()
        writer.close()

    async def act(client):
        await client.leave(request, part, 0.0)
        await asyncio.wait_for(ended.wait(), 10)

    with_server(answer, act)
    assert (b"".join(came) == request) is whole
    assert request.startswith(b"".join(came))


@pytest.fixture
def found():
    samples = [Held(float(at), 700.0 + at % 2, 30, 50) for at in range(300)]
    share = Share(300.0, {"service": 300.0, "traffic": 30.0}, 0.01)
    seconds = [[at, 90, 3, 50, 0, 20.0, 200.0] for at in range(300)]
    counted = [("classify, raw", {"200": 900, "503": 3}, 20.0, 200.0)]
    return Found(1.0, 150.0, 155.0, samples, share, counted, seconds, 0, [], [])


def test_the_soak_passes_when_nothing_grows_and_nothing_was_unexpected(found):
    assert found.passed
    assert any(line.startswith("**Passed**") for line in report.lines(found))


@pytest.mark.parametrize("what", ["grows", "unexpected"])
def test_the_soak_fails_otherwise_and_says_why(found, what):
    grown = [one._replace(rss=one.rss + one.at / 60) for one in found.samples]
    changed = {"grows": {"samples": grown}, "unexpected": {"unexpected": 1, "examples": ["why"]}}
    failed = found._replace(**changed[what])
    assert not failed.passed
    lines = report.lines(failed)
    assert any(line.startswith("**Failed**") for line in lines)
    assert ("- `why`" in lines) is (what == "unexpected")


def test_what_grows_while_it_warms_up_does_not_count(found):
    early = [one._replace(rss=one.rss - max(60 - one.at, 0)) for one in found.samples]
    assert found._replace(samples=early).passed


def test_a_fifth_of_the_run_but_five_minutes_at_most_is_the_warm_up():
    minutes = [["--minutes", "3"], [], ["--minutes", "60"], ["--warm-up", "2"]]
    assert [soak.parsed(given).warm_up for given in minutes] == [pytest.approx(0.6), 4, 5, 2]


def test_the_picture_is_drawn(found, tmp_path):
    draw(found, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
