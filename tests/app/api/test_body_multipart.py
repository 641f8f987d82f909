"""Multipart bodies: the part named `file`, and invalid bodies."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from app.api.body import BytesInFlight, ImageBody, Receive, read_image
from app.core.errors import EmptyBody, MalformedRequest

pytestmark = pytest.mark.anyio

IMAGE = (
    bytes(range(256)) + b"\r\n--x\r\n--y--\r\n"
)  # any bytes, including some that look like a boundary
MULTIPART = "multipart/form-data; boundary=frontier"


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


def part(
    data: bytes = IMAGE, *, name: str = "file", quoted: bool = True, file: bool = True
) -> bytes:
    shown = f'"{name}"' if quoted else name
    filename = "; filename=a.png" if file else ""
    head = f"Content-Disposition: form-data; name={shown}{filename}\r\nContent-Type: image/png"
    return head.encode() + b"\r\n\r\n" + data


def multipart(*parts: bytes, boundary: str = "frontier") -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + one + b"\r\n" for one in parts) + line + b"--\r\n"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=frontier", "frontier"),
        ('multipart/form-data; boundary="frontier"', "frontier"),
        ('multipart/form-data; boundary="two words:?"', "two words:?"),
        ("Multipart/Form-Data; charset=utf-8; Boundary=frontier", "frontier"),
        ("multipart/form-data;boundary=----WebKitFormBoundary7MA", "----WebKitFormBoundary7MA"),
    ],
)
async def test_every_valid_boundary_is_accepted(content_type, boundary):
    assert await read(content_type, multipart(part(), boundary=boundary)) == IMAGE


@pytest.mark.parametrize(
    "body",
    [
        multipart(part(name="note", data=b"hello"), part(), part(name="last", data=b"")),
        multipart(part(quoted=False)),
        multipart(part().replace(b"; filename=a.png", b"")),
        multipart(b"Content-Transfer-Encoding: binary\r\n" + part()),
        multipart(*[part(b"", name="a")] * 31, part()),
        multipart(part().replace(b"Content-Disposition", b"content-DISPOSITION")),
        multipart(b"Content-Type: image/png\r\n\r\nno name", part()),
        b"\r\n" + multipart(part()) + b"an epilogue",
        multipart(part())[:-2],
    ],
    ids=[
        "among others",
        "bare name",
        "no filename",
        "binary",
        "many",
        "case",
        "a part without name",
        "margins",
        "no last line end",
    ],
)
async def test_the_part_named_file_is_the_image(body):
    assert await read(MULTIPART, body) == IMAGE


async def test_the_other_parts_are_parameters():
    body = multipart(part(b"3", name="top_k"), part(), part(b"x" * 5000, name="\xfc"))
    contents = await read_body(MULTIPART, body)
    assert contents.image == IMAGE
    assert list(contents.parameters) == [("top_k", "3"), ("\xfc", "x" * 256)]


@pytest.mark.parametrize("cut", [8, 20, 60, 120, 300, -4])
async def test_truncated_multipart_is_malformed(cut):
    with pytest.raises(MalformedRequest, match="multipart"):
        await read(MULTIPART, multipart(part())[:cut])


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        (
            MULTIPART,
            multipart(part(name="image")),
            "the image is in the part named 'image'; name it file",
        ),
        (MULTIPART, multipart(part(name="File")), "part named 'File'; name it file"),
        (
            MULTIPART,
            multipart(part(b"3", name="top_k", file=False), part(name="x" * 99)),
            f"part named '{'x' * 40}'; name it file",
        ),
        (
            MULTIPART,
            multipart(part(name="a"), part(name="b")),
            "there are 0, and the parts are named 'a', 'b'",
        ),
        (
            MULTIPART,
            multipart(part(name="image", file=False)),
            "there are 0, and the parts are named 'image'",
        ),
        (MULTIPART, multipart(part(b"cat.jpg", file=False)), "write file=@FILE"),
        (MULTIPART, multipart(), "there are 0"),
        (MULTIPART, multipart(part(), part()), "there are 2"),
        (MULTIPART, multipart(part(), boundary="another"), "multipart body"),
        (MULTIPART, IMAGE, "multipart body"),
        (MULTIPART, multipart(part()).replace(b"\r\n", b"\n"), "multipart body"),
        ("multipart/form-data", multipart(part()), "no boundary"),
        ("multipart/form-data; boundary=", multipart(part()), "no boundary"),
        ("multipart/form-data; boundary=" + "b" * 71, multipart(part()), "longer than 70 bytes"),
        (MULTIPART, multipart(*[part(b"", name="a")] * 33), "more than 32 parts"),
        (MULTIPART, multipart(part(b"\r\n--frontierx" * 33)), "more than 32 parts"),
        (MULTIPART, multipart(b"A: b\r\n" * 9 + part()), "header count"),
        (MULTIPART, multipart(b"A: " + b"b" * 2100 + b"\r\n" + part()), "header size"),
        (MULTIPART, multipart(part().replace(b"image/png", b"multipart/mixed; a")), "is itself"),
        (
            MULTIPART,
            multipart(b"Content-Transfer-Encoding: base64\r\n" + part()),
            "is encoded; send its bytes",
        ),
    ],
)
async def test_multipart_without_exactly_one_file_is_malformed(content_type, body, why):
    with pytest.raises(MalformedRequest, match=why):
        await read(content_type, body)


async def test_a_file_without_bytes_is_empty():
    with pytest.raises(EmptyBody, match="image"):
        await read(MULTIPART, multipart(part(b"")))


async def test_random_corruption_raises_no_other_error():
    rng = np.random.default_rng(1)
    whole = np.frombuffer(multipart(part(b"image"), part(name="b")), np.uint8)
    for _ in range(300):
        broken = whole[: rng.integers(1, len(whole) + 1)].copy()
        broken[rng.integers(0, len(broken), 2)] = rng.integers(0, 256, 2)
        with suppress(MalformedRequest, EmptyBody):
            await read(MULTIPART, broken.tobytes())
