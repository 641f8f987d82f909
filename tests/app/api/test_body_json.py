"""JSON bodies: base64 and data: URIs, and invalid bodies."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from app.api.body import BytesInFlight, ImageBody, Receive, read_image
from app.core.errors import EmptyBody, MalformedRequest

pytestmark = pytest.mark.anyio

IMAGE = bytes(range(256))
BASE64 = base64.b64encode(IMAGE).decode()
JSON = "application/json"


def arriving(body: bytes) -> Receive:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return receive


async def read_body(content_type: str, body: bytes) -> ImageBody:
    with ThreadPoolExecutor(1) as pool:
        headers = {"content-type": content_type}
        return await read_image(
            headers,
            arriving(body),
            max_bytes=10**6,
            pool=pool,
            reserve=BytesInFlight(10**9).reserve().resize,
        )


async def read(content_type: str, body: bytes) -> bytes:
    return (await read_body(content_type, body)).image


def json_of(image: str) -> bytes:
    return b'{"image": "' + image.encode() + b'"}'


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "text/json",
        "application/vnd.api+json",
        "application/ld+json; profile=x",
    ],
)
async def test_json_may_contain_base64(content_type):
    assert await read(content_type, json_of(BASE64)) == IMAGE


@pytest.mark.parametrize(
    "image",
    [
        f"data:image/png;base64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"data:image/svg+xml;charset=utf-8;base64,{BASE64}",
        f"DATA:image/png;BASE64,{BASE64}",
        f"  {BASE64}\\n",
        "\\r\\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76)),
        f"data:image/png;base64,\\n{BASE64}",
    ],
    ids=["data", "no type", "parameters", "case", "margins", "lines", "data and lines"],
)
async def test_all_common_forms_of_base64_are_accepted(image):
    assert await read(JSON, json_of(image)) == IMAGE


async def test_additional_members_are_parameters():
    body = b'{"top_k": 7, "image": "%s", "output": "labels", "more": [{}], "no": null}'
    contents = await read_body(JSON, body % BASE64.encode())
    assert contents.image == IMAGE
    assert list(contents.parameters) == [
        ("top_k", "7"),
        ("output", "labels"),
        ("more", "[{}]"),
        ("no", "null"),
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (IMAGE, "JSON body"),
        (b"\xff\xfe", "JSON body"),
        (b'{"image": "aGk="', "JSON body"),
        (b'"aGk="', "JSON body"),
        (b"null", "JSON body"),
        (b"{}", "in the member named image; there is none"),
        (b'{"Image": "aGk=", "x": 1}', "there is none, and the members are named 'Image', 'x'"),
        (b'{"image": null}', "image: Input should be a valid string"),
        (b'{"image": 5}', "image: Input should be a valid string"),
        (b'{"image": ["aGk="]}', "image: Input should be a valid string"),
        (b'{"image": {"image": "aGk="}}', "image: Input should be a valid string"),
        (b"[" * 900, "JSON body"),
        (b"[" * 20_000, "too many values"),
        (b'{"image": "aGk=", "more": [' + b"0," * 10_000 + b"0]}", "too many values"),
        (b'{"image": "aGk=", "image": "aG"}', "not valid base64"),
        (b'{"image":' * 900, "JSON body"),
        (b'{"image": "\\ud800"}', "JSON body"),
        (json_of("aGk"), "not valid base64"),
        (json_of("a"), "not valid base64"),
        (json_of("a-_="), "not valid base64"),
        (json_of("aGk=aGk="), "not valid base64"),
        (json_of("größe"), "not valid base64"),
        (json_of("data:image/png,abc"), "not base64"),
        (json_of("data:image/png;base64"), "has no comma"),
        (json_of("https://example.org/a.png"), "image: the service does not fetch addresses"),
    ],
    ids=lambda value: repr(value[:30]),
)
async def test_json_without_an_image_is_malformed(body, why):
    with pytest.raises(MalformedRequest, match=why):
        await read(JSON, body)


async def test_base64_is_valid_if_the_standard_library_accepts_it():
    rng = np.random.default_rng(2)
    for _ in range(500):
        text = "".join(rng.choice(list("AZaz09+/-_= \n"), rng.integers(1, 10)))
        try:
            expected = base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            expected = None
        try:
            found = await read(JSON, json_of(json.dumps(text)[1:-1]))
        except MalformedRequest:
            found = None
        except EmptyBody:
            found = b""
        assert found == expected, text


async def test_unused_bits_of_base64_are_ignored():
    assert await read(JSON, json_of("aGk=")) == await read(JSON, json_of("aGl=")) == b"hi"


@pytest.mark.parametrize("image", ["", " ", "data:image/png;base64,"])
async def test_an_image_without_bytes_is_empty(image):
    with pytest.raises(EmptyBody, match="image"):
        await read(JSON, json_of(image))


async def test_the_last_of_duplicate_members_counts():
    assert await read(JSON, b'{"image": "aa", "image": "%s"}' % BASE64.encode()) == IMAGE


async def test_random_corruption_raises_no_other_error():
    rng = np.random.default_rng(1)
    whole = np.frombuffer(json_of("data:image/png;base64,aGk="), np.uint8)
    for _ in range(300):
        broken = whole[: rng.integers(1, len(whole) + 1)].copy()
        broken[rng.integers(0, len(broken), 2)] = rng.integers(0, 256, 2)
        with suppress(MalformedRequest, EmptyBody):
            await read(JSON, broken.tobytes())
