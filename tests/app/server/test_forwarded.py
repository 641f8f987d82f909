"""Headers of a proxy are applied only if the proxy is trusted."""

import pytest

from app.server.forwarded import Forwarded

pytestmark = pytest.mark.anyio
PROXY, STRANGER = ("10.1.2.3", 40000), ("192.0.2.7", 40000)


async def applied(
    client: tuple[str, int] | None, *headers: tuple[bytes, bytes], root_path: str = ""
) -> dict:
    """The scope that the app gets, behind the proxies of 10.0.0.0/8 and ::1."""
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    scope = {"type": "http", "path": "/", "scheme": "http", "client": client, "headers": [*headers]}
    await Forwarded(app, ["10.0.0.0/8", "::1"], root_path)(scope, None, None)
    return seen


async def test_a_trusted_proxy_says_prefix_address_and_scheme():
    seen = await applied(
        PROXY,
        (b"x-forwarded-prefix", b"/vision/v1/"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"https"),
    )
    assert (seen["root_path"], seen["client"][0], seen["scheme"]) == (
        "/vision/v1", "192.0.2.7", "https",
    )  # fmt: skip


@pytest.mark.parametrize("client", [STRANGER, None, ("unix:", 0)])
async def test_the_headers_of_others_are_ignored(client):
    seen = await applied(
        client, (b"x-forwarded-prefix", b"/evil"), (b"x-forwarded-for", b"203.0.113.9")
    )
    assert seen["root_path"] == ""
    assert seen["client"] == client


@pytest.mark.parametrize(
    "prefix",
    [b'/"><script>', b"vision", b"//evil.example", b"https://evil.example", b"/a b", b"/", b""],
)
async def test_a_prefix_that_is_not_a_plain_path_is_ignored(prefix):
    assert (await applied(PROXY, (b"x-forwarded-prefix", prefix)))["root_path"] == ""


async def test_two_prefixes_are_ignored():
    pair = [(b"x-forwarded-prefix", b"/a"), (b"x-forwarded-prefix", b"/b")]
    assert (await applied(PROXY, *pair))["root_path"] == ""


async def test_the_prefix_of_the_settings_is_that_of_all_other_requests():
    assert (await applied(STRANGER, root_path="/vision"))["root_path"] == "/vision"
    header = (b"x-forwarded-prefix", b"/other")
    assert (await applied(PROXY, header, root_path="/vision"))["root_path"] == "/other"
    assert (await applied(STRANGER, header, root_path="/vision"))["root_path"] == "/vision"
