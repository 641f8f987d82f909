"""The kinds of requests of the soak: what each sends, how, and which responses are expected."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from bench.serving.http_requests import multipart_request
from bench.serving.http_requests import post as plain_post
from bench.soaking import pictures

Sending = Literal[
    "whole", "incomplete", "slow", "stalled", "disconnects uploading", "disconnects waiting"
]
JSON, PNG, TEXT = "application/json", "image/png", "text/plain"
MAX_BODY = 20 * 2**20  # the service's default
BUSY = {503: "overloaded"}
TOO_LARGE = {413: "payload_too_large"}
TOO_LONG = {431: "headers_too_large"}
NOT_ACCEPTABLE = {406: "not_acceptable"}
TOO_SLOW = {408: "upload_too_slow"}


class Kind(NamedTuple):
    """One kind of request.

    Attributes:
        name: its name in the results.
        weight: its frequency relative to the other kinds.
        requests: possible requests as bytes, of which one is drawn.
        expected: expected statuses with the code of the problem; "" for no problem.
        media: content type of a result.
        sending: how it is sent, and whether the client waits for the response.
    """

    name: str
    weight: float
    requests: Sequence[bytes]
    expected: Mapping[int, str]
    media: str = JSON
    sending: Sending = "whole"

    @property
    def work(self) -> bool:
        """Whether it is a request for work that is expected to return a result."""
        return 200 in self.expected and self.sending == "whole" and b"POST" in self.requests[0][:4]


def every() -> list[Kind]:
    """Return all kinds except the burst, which has its own schedule."""
    files = pictures.good()
    return [
        *good_requests(files),
        *bad_images(files),
        *bad_requests(files),
        *disconnecting(files),
        *probes(),
    ]


def burst() -> Kind:
    """Return the requests of a burst: more than fit in the queue, with a short deadline."""
    data = pictures.good()["JPEG"]
    expected = {200: "", 503: "overloaded", 504: "deadline_exceeded"}
    return Kind("burst", 0, [post("/classify", data, "X-Request-Timeout-Ms: 400")], expected)


def post(path: str, body: bytes, *headers: str, media: str = "image/jpeg") -> bytes:
    """Return a POST request, with more headers if given."""
    line, rest = plain_post(path, media, body).split(b"\r\n", 1)
    more = "".join(f"{header}\r\n" for header in headers).encode()
    return line + b"\r\n" + more + rest


def get(path: str) -> bytes:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def as_json(path: str, data: bytes) -> bytes:
    """Return a request with the image as base64 in JSON."""
    body = json.dumps({"image": b64encode(data).decode()}).encode()
    return post(path, body, media=JSON)


def good_requests(files: Mapping[str, bytes]) -> list[Kind]:
    """Return requests with good images, in all forms, for all operations."""
    some = [data for name, data in files.items() if name != "large JPEG"]
    photo, ok = files["JPEG"], {200: ""}
    picture = "Accept: image/png"
    return [
        Kind("classify, raw", 20, [post("/classify", data) for data in some], ok),
        Kind("classify, multipart", 8, [multipart_request("/classify", data) for data in some], ok),
        Kind("classify, JSON", 8, [as_json("/classify", data) for data in some], ok),
        Kind("classify, large", 1, [post("/classify?top_k=3", files["large JPEG"])], ok),
        Kind("embedding", 3, [post("/classify?output=embedding", photo)], ok),
        Kind("segment, mask", 10, [post("/segment", data, picture) for data in some], ok, PNG),
        Kind("segment, overlay", 4, [post("/segment?render=overlay", photo)], ok, PNG),
        Kind("segment, large", 1, [post("/segment", files["large JPEG"], picture)], ok, PNG),
        Kind("segment, JSON", 6, [post("/segment", d, f"Accept: {JSON}") for d in some], ok, JSON),
        Kind("explain, PNG", 2, [post("/explain", photo, picture)], ok, PNG),
        Kind("explain, JSON", 2, [post("/explain", photo, f"Accept: {JSON}")], ok, JSON),
        Kind("with a deadline", 4, [post("/classify", photo, "X-Request-Timeout-Ms: 20000")], ok),
        Kind("slow upload", 0.3, [post("/classify", photo)], ok, sending="slow"),
    ]


def bad_images(files: Mapping[str, bytes]) -> list[Kind]:
    """Return requests whose body is no image, or an image that is not accepted."""
    invalid = [*pictures.truncated(dict(files)), *pictures.corrupt(dict(files))]
    paths = ("/classify", "/segment")
    return [
        Kind(
            "truncated or corrupt",
            6,
            [post(path, data) for path in paths for data in invalid],
            {422: "invalid_image"},
        ),
        Kind(
            "not an image",
            5,
            [post(path, data) for path in paths for data in pictures.foreign()],
            {415: "unsupported_image_format"},
        ),
        Kind(
            "too many pixels",
            2,
            [post("/classify", pictures.bomb(side)) for side in (8_000, 20_000, 60_000)],
            {413: "image_too_large"},
        ),
    ]


def bad_requests(files: Mapping[str, bytes]) -> list[Kind]:
    """Return requests that are refused whatever the image is."""
    photo = files["JPEG"]
    late = {504: "deadline_exceeded", **BUSY}
    declared = post("/classify", photo).replace(
        b"Content-Length: %d" % len(photo), b"Content-Length: %d" % (MAX_BODY + 2**22)
    )
    headers = [f"X-Filler-{number}: {'x' * 4000}" for number in range(64)]
    return [
        Kind("malformed", 5, malformed(photo), {400: "malformed_request"}),
        Kind("wrong parameter", 4, wrong_parameters(photo), {422: "invalid_parameter"}),
        Kind("empty body", 2, [post("/classify", b"")], {400: "empty_body"}),
        Kind("declared too large", 1, [declared], TOO_LARGE, sending="incomplete"),
        Kind("sent too large", 0.05, [oversize()], TOO_LARGE),
        Kind("headers too long", 0.5, [post("/classify", photo, *headers)], TOO_LONG),
        Kind("not acceptable", 2, [post("/segment", photo, "Accept: text/html")], NOT_ACCEPTABLE),
        Kind("no such path", 2, [get("/nowhere"), post("/classify/x", photo)], {404: "not_found"}),
        Kind("wrong method", 2, [get("/classify")], {405: "method_not_allowed"}),
        Kind("deadline too short", 5, [post("/classify", photo, "X-Request-Timeout-Ms: 1")], late),
        Kind("stalled upload", 0.1, [post("/classify", photo)], TOO_SLOW, sending="stalled"),
    ]


def malformed(photo: bytes) -> list[bytes]:
    """Return requests whose body does not have the form that its content type names."""
    return [
        post("/classify", b'{"image": "', media=JSON),
        post("/classify", b'{"picture": "AAAA"}', media=JSON),
        post("/classify", b'{"image": "!not base64!"}', media=JSON),
        post("/classify", b"[" * 100_000, media=JSON),
        post("/classify", b"--x\r\nbroken", media="multipart/form-data; boundary=x"),
        post("/classify", photo, media="multipart/form-data"),
    ]


def wrong_parameters(photo: bytes) -> list[bytes]:
    """Return requests with unknown parameters or invalid values."""
    return [
        post("/classify?top_k=0", photo),
        post("/classify?topk=3", photo),
        post("/segment?render=neon", photo),
        post("/explain?method=guess", photo),
        post("/classify", photo, "X-Request-Timeout-Ms: soon"),
    ]


def oversize() -> bytes:
    """Return a chunked request that is too large, without a declared length."""
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    return head + chunk * (MAX_BODY // 2**20 + 1) + b"0\r\n\r\n"


def disconnecting(files: Mapping[str, bytes]) -> list[Kind]:
    """Return requests of clients that disconnect before the response."""
    paths = ("/classify", "/segment", "/explain")
    requests = [post(path, files["JPEG"]) for path in paths]
    return [
        Kind("disconnects uploading", 3, requests, {}, sending="disconnects uploading"),
        Kind("disconnects waiting", 3, requests, {}, sending="disconnects waiting"),
    ]


def probes() -> list[Kind]:
    """Return the requests of orchestrators and of Prometheus."""
    ok = {200: ""}
    health = [get("/livez"), get("/readyz"), get("/startupz"), get("/models")]
    return [
        Kind("probe", 4, health, ok),
        Kind("scrape", 1, [get("/metrics")], ok, TEXT),
        Kind("OpenAPI", 0.5, [get("/openapi.json")], ok),
    ]
