"""Request bodies: raw bytes, the limits on all forms, and where they are parsed."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from app.api.body import MAX_BYTES_PARSED_ON_LOOP, BytesInFlight, Receive, read_image
from app.core.errors import (
    ClientGone,
    EmptyBody,
    MalformedRequest,
    Overloaded,
    PayloadTooLarge,
    UnsupportedImageFormat,
)
from tests.hostile.case import drawn

pytestmark = pytest.mark.anyio

IMAGE = bytes(range(256))
LIMIT = 10_000
MULTIPART = "multipart/form-data; boundary=frontier"


class RecordingPool(ThreadPoolExecutor):
    """An executor that counts its calls."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls = 0

    def submit(self, *args, **kwargs):
        self.calls += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def pool() -> Iterator[RecordingPool]:
    with RecordingPool() as executor:
        yield executor


async def arriving(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def received(chunks: AsyncIterator[bytes]) -> Receive:
    """The chunks as ASGI messages."""

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request"}

    return receive


async def read(
    pool: Executor, content_type: str | None, *chunks: bytes, limit: int = LIMIT, **headers: str
) -> bytes:
    all_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        all_headers["content-type"] = content_type
    body = await read_image(
        all_headers,
        received(arriving(*chunks)),
        max_bytes=limit,
        pool=pool,
        reserve=BytesInFlight(10**9).reserve().resize,
    )
    return body.image


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
async def test_with_any_other_content_type_the_body_is_the_image(pool, content_type):
    assert await read(pool, content_type, IMAGE) == IMAGE


@pytest.mark.parametrize("content_type", [None, "text/plain", "image/png", "application/jsonl"])
async def test_json_without_its_content_type_is_refused_with_a_hint(pool, content_type):
    with pytest.raises(MalformedRequest, match="send Content-Type: application/json"):
        await read(pool, content_type, json_of(IMAGE))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_a_file_without_the_bytes_that_curl_removes_is_refused_with_a_hint(pool, kind):
    image = drawn(kind)
    stripped = image.translate(None, delete=b"\0\r\n")
    form = "application/x-www-form-urlencoded"  # curl declares this type for any data
    assert await read(pool, form, image, limit=len(image)) == image
    for body in (stripped, b"cat.jpg", b"file=@cat.jpg"):
        with pytest.raises(MalformedRequest, match="use --data-binary @FILE, or -F file=@FILE"):
            await read(pool, form, body, limit=len(image))


async def test_a_body_may_arrive_in_chunks(pool):
    chunks = [IMAGE[i : i + 7] for i in range(0, len(IMAGE), 7)]
    assert await read(pool, "image/png", b"", *chunks, b"") == IMAGE


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
            reserve=BytesInFlight(10**9).reserve().resize,
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
            reserve=BytesInFlight(10**9).reserve().resize,
        )
    assert sent == LIMIT + 1000


@pytest.mark.parametrize("declared", ["0", "5", "", "-1", "1e9", "²", "9" * 30, "nonsense"])
async def test_received_bytes_count_whatever_the_content_length(pool, declared):
    assert await read(pool, None, IMAGE, content_length=declared) == IMAGE
    with pytest.raises(PayloadTooLarge):
        await read(pool, None, bytes(LIMIT), b"a", content_length=declared)


async def test_the_limit_is_inclusive(pool):
    assert len(await read(pool, None, bytes(LIMIT), content_length=str(LIMIT))) == LIMIT


@pytest.mark.parametrize("content_type", [MULTIPART, "application/json"])
@pytest.mark.parametrize("size", [MAX_BYTES_PARSED_ON_LOOP // 2, MAX_BYTES_PARSED_ON_LOOP])
async def test_large_bodies_are_parsed_in_the_pool(pool, content_type, size):
    image = bytes(size)
    body = multipart(image) if content_type == MULTIPART else json_of(image)
    assert await read(pool, content_type, body, limit=2 * len(body)) == image
    assert pool.calls == (len(body) > MAX_BYTES_PARSED_ON_LOOP)


async def test_large_raw_bodies_need_no_parsing(pool):
    body = bytes(2 * MAX_BYTES_PARSED_ON_LOOP)
    assert await read(pool, None, body, limit=len(body)) is body
    assert pool.calls == 0


async def test_errors_in_the_pool_are_raised(pool):
    with pytest.raises(MalformedRequest):
        await read(
            pool, MULTIPART, bytes(MAX_BYTES_PARSED_ON_LOOP + 1), limit=2 * MAX_BYTES_PARSED_ON_LOOP
        )
    assert pool.calls == 1


async def test_the_loop_is_free_while_a_large_body_is_parsed(pool):
    gate = threading.Event()
    pool.submit(gate.wait, 30)  # its only thread is busy, so the parser has to wait
    body = multipart(bytes(MAX_BYTES_PARSED_ON_LOOP))
    reading = asyncio.create_task(read(pool, MULTIPART, body, limit=len(body)))
    for _ in range(20):
        await asyncio.sleep(0)  # the loop is not blocked
    assert pool.calls == 2
    assert not reading.done()
    gate.set()
    assert len(await reading) == MAX_BYTES_PARSED_ON_LOOP


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, deflate", "x" * 100])
async def test_a_body_with_a_content_encoding_is_refused_before_it_is_read(pool, coding):
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    reserve = BytesInFlight(LIMIT).reserve().resize
    with pytest.raises(UnsupportedImageFormat, match="encoded") as refused:
        await read_image(
            {"content-encoding": coding},
            received(body()),
            max_bytes=LIMIT,
            reserve=reserve,
            pool=pool,
        )
    assert refused.value.headers == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("coding", ["identity", "", " Identity "])
async def test_the_identity_encoding_is_accepted(pool, coding):
    assert await read(pool, None, IMAGE, content_encoding=coding) == IMAGE


async def test_a_content_type_that_is_too_long_is_malformed(pool):
    with pytest.raises(MalformedRequest, match="too long"):
        await read(pool, "a" + ";" * 2000, IMAGE)


@pytest.mark.parametrize("declared", [300, 220, None])
async def test_what_has_arrived_is_reserved_and_as_much_again(pool, monkeypatch, declared):
    monkeypatch.setattr("app.api.body.FIRST_BYTES", 10)
    total, held = BytesInFlight(LIMIT), []
    headers = {} if declared is None else {"content-length": str(declared)}

    async def body() -> AsyncIterator[bytes]:
        for size in (0, 50, 100, 70):
            yield bytes(size)
            held.append(total.held)

    with total.reserve() as reservation:
        await read_image(
            headers, received(body()), max_bytes=LIMIT, reserve=reservation.resize, pool=pool
        )
        assert total.held == 220
    assert held == [10, 110, min(declared or 310, 310), min(declared or 450, 450)]
    assert total.held == 0


async def test_bytes_beyond_the_common_limit_are_refused_when_they_arrive(pool):
    total = BytesInFlight(1000)
    for headers in ({"content-length": "1001"}, {}):
        with total.reserve() as reservation, pytest.raises(Overloaded):
            await read_image(
                headers,
                received(arriving(bytes(1000), bytes(1))),
                max_bytes=LIMIT,
                reserve=reservation.resize,
                pool=pool,
            )
    assert total.held == 0


async def test_a_disconnect_during_the_upload_is_client_gone(pool):
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"a", "more_body": True},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    with pytest.raises(ClientGone):
        await read_image(
            {}, receive, max_bytes=LIMIT, reserve=BytesInFlight(10**9).reserve().resize, pool=pool
        )
