"""GET /docs: Swagger UI without a file of another host."""

import re

import pytest

pytestmark = pytest.mark.anyio


async def test_every_file_of_the_documentation_comes_from_the_service(serve):
    async with serve() as running:
        page = await running.client.get("/docs")
        names = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
        files = [await running.client.get(f"/{name}") for name in names]
    assert "://" not in page.text
    assert {name.rpartition(".")[2] for name in names} == {"js", "css", "png"}
    assert {file.status_code for file in files} == {200}
    assert sum(b"SwaggerUIBundle" in file.content for file in files) == 2  # the bundle, and a call


async def test_the_documentation_may_load_nothing_from_another_host(serve):
    async with serve() as running:
        policy = (await running.client.get("/docs")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "http" not in policy


@pytest.mark.parametrize("name", ["docs.html", "__init__.py", "swagger-ui-bundle.js.map", "%2e%2e"])
async def test_other_files_are_not_sent(serve, name):
    async with serve() as running:
        assert (await running.client.get(f"/docs/{name}")).status_code == 404
