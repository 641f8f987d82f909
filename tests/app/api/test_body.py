"""Request bodies: raw bytes, the limit on all forms, and where they are parsed."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from app.api.body import PARSED_ON_THE_LOOP, BytesInFlight, Receive, read_image
from app.core.errors import (
    ClientGone,
    EmptyBody,
    MalformedRequest,
    Overloaded,
    PayloadTooLarge,
    UnsupportedImageFormat,
)

pytestmark = pytest.mark.anyio

IMAGE = bytes(range(256))
LIMIT = 10_000
MULTIPART = "multipart/form-data; boundary=frontier"


class RecordingPool(ThreadPoolExecutor):
    """An executor that knows what it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given = 0

    def submit(self, *args, **kwargs):
        self.given += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def pool() -> Iterator[RecordingPool]:
    with RecordingPool() as executor:
        yield executor


async def arriving(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def received(chunks: AsyncIterator[bytes]) -> Receive:
    """The chunks as ASGI's messages."""

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request"}

    return receive


async def read(
    pool: Executor, content_type: str | None, *chunks: bytes, limit: int = LIMIT, **headers: str
) -> bytes:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        given["content-type"] = content_type
    return await read_image(
        given,
        received(arriving(*chunks)),
        max_bytes=limit,
        pool=pool,
        hold=BytesInFlight(10**9).reserve().grow,
    )


def multipart(image: bytes) -> bytes:
    head = b'--frontier\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    return head + image + b"\r\n--frontier--\r\n"


def json_of(image: bytes) -> bytes:
    return b'{"image": "' + base64.b64encode(image) + b'"}'


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "image/png",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "image/jpeg; charset=utf-8",
        "text/plain",
        "multipart/mixed; boundary=frontier",
        "application/jsonl",
        "nonsense;;; =",
    ],
)
async def test_any_other_content_type_means_the_bytes_themselves(pool, content_type):
    assert await read(pool, content_type, IMAGE) == IMAGE


async def test_a_body_may_come_in_pieces(pool):
    pieces = [IMAGE[i : i + 7] for i in range(0, len(IMAGE), 7)]
    assert await read(pool, "image/png", b"", *pieces, b"") == IMAGE


@pytest.mark.parametrize("content_type", [None, "image/png", MULTIPART, "application/json"])
async def test_a_request_without_a_body_is_empty(pool, content_type):
    with pytest.raises(EmptyBody, match="no body"):
        await read(pool, content_type, b"")


async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read(pool):
    touched = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal touched
        touched = True
        yield b"a"

    headers = {"content-length": str(LIMIT + 1)}
    with pytest.raises(PayloadTooLarge) as refused:
        await read_image(
            headers,
            received(body()),
            max_bytes=LIMIT,
            pool=pool,
            hold=BytesInFlight(10**9).reserve().grow,
        )
    assert not touched
    assert refused.value.limits == {"max_body_bytes": LIMIT}


async def test_chunks_beyond_the_limit_are_not_read(pool):
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield bytes(1000)

    with pytest.raises(PayloadTooLarge):
        await read_image(
            {},
            received(body()),
            max_bytes=LIMIT,
            pool=pool,
            hold=BytesInFlight(10**9).reserve().grow,
        )
    assert sent == LIMIT + 1000


@pytest.mark.parametrize("declared", ["0", "5", "", "-1", "1e9", "²", "9" * 30, "nonsense"])
async def test_the_bytes_count_whatever_length_was_declared(pool, declared):
    assert await read(pool, None, IMAGE, content_length=declared) == IMAGE
    with pytest.raises(PayloadTooLarge):
        await read(pool, None, bytes(LIMIT), b"a", content_length=declared)


async def test_the_limit_is_inclusive(pool):
    assert len(await read(pool, None, bytes(LIMIT), content_length=str(LIMIT))) == LIMIT


@pytest.mark.parametrize("content_type", [MULTIPART, "application/json"])
@pytest.mark.parametrize("size", [PARSED_ON_THE_LOOP // 2, PARSED_ON_THE_LOOP])
async def test_large_bodies_are_parsed_off_the_loop(pool, content_type, size):
    image = bytes(size)
    body = multipart(image) if content_type == MULTIPART else json_of(image)
    assert await read(pool, content_type, body, limit=2 * len(body)) == image
    assert pool.given == (len(body) > PARSED_ON_THE_LOOP)


async def test_large_raw_bodies_need_no_parsing(pool):
    body = bytes(2 * PARSED_ON_THE_LOOP)
    assert await read(pool, None, body, limit=len(body)) is body
    assert pool.given == 0


async def test_errors_come_back_from_the_pool_too(pool):
    with pytest.raises(MalformedRequest):
        await read(pool, MULTIPART, bytes(PARSED_ON_THE_LOOP + 1), limit=2 * PARSED_ON_THE_LOOP)
    assert pool.given == 1


async def test_the_loop_is_free_while_a_large_body_is_parsed(pool):
    gate = threading.Event()
    pool.submit(gate.wait, 30)  # its only thread is busy: the parser has to wait for it
    body = multipart(bytes(PARSED_ON_THE_LOOP))
    reading = asyncio.create_task(read(pool, MULTIPART, body, limit=len(body)))
    for _ in range(20):
        await asyncio.sleep(0)  # the loop goes on
    assert pool.given == 2
    assert not reading.done()
    gate.set()
    assert len(await reading) == PARSED_ON_THE_LOOP


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, deflate", "x" * 100])
async def test_a_body_that_is_compressed_as_a_whole_is_refused_before_it_is_read(pool, coding):
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("read")
        yield b""

    hold = BytesInFlight(LIMIT).reserve().grow
    with pytest.raises(UnsupportedImageFormat, match="encoded") as refused:
        await read_image(
            {"content-encoding": coding}, received(body()), max_bytes=LIMIT, hold=hold, pool=pool
        )
    assert refused.value.headers == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("coding", ["identity", "", " Identity "])
async def test_a_body_may_say_that_it_is_not_compressed(pool, coding):
    assert await read(pool, None, IMAGE, content_encoding=coding) == IMAGE


async def test_a_content_type_without_end_is_malformed(pool):
    with pytest.raises(MalformedRequest, match="too long"):
        await read(pool, "a" + ";" * 2000, IMAGE)


async def test_a_declared_length_is_held_at_once_and_chunks_as_they_come(pool):
    quota, held = BytesInFlight(LIMIT), []

    async def body() -> AsyncIterator[bytes]:
        for size in (100, 200):
            held.append(quota.held)
            yield bytes(size)

    for headers in ({"content-length": "300"}, {}):
        with quota.reserve() as share:
            await read_image(headers, received(body()), max_bytes=LIMIT, hold=share.grow, pool=pool)
            held.append(quota.held)
    assert held == [300, 300, 300, 0, 100, 300]


async def test_bytes_that_may_not_be_held_are_refused_before_they_are_read(pool):
    quota = BytesInFlight(1000)
    with quota.reserve() as share:
        with pytest.raises(Overloaded):
            await read_image(
                {"content-length": "1001"},
                received(arriving(IMAGE)),
                max_bytes=LIMIT,
                hold=share.grow,
                pool=pool,
            )
        chunks = arriving(bytes(1000), bytes(1))
        with pytest.raises(Overloaded):
            await read_image({}, received(chunks), max_bytes=LIMIT, hold=share.grow, pool=pool)


async def test_who_leaves_while_uploading_is_gone(pool):
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"a", "more_body": True},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    with pytest.raises(ClientGone):
        await read_image(
            {}, receive, max_bytes=LIMIT, hold=BytesInFlight(10**9).reserve().grow, pool=pool
        )
