"""GET /: the page for a browser, a short answer for others; its files and samples."""

import os

import pytest
from PIL import Image

from app.api.routes.playground import MAX_SAMPLES, POLICY, SAMPLES, sample_names

pytestmark = pytest.mark.anyio
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ALIVE = {"status": "alive"}


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/*", "text/html;q=0", ""])
async def test_a_client_that_does_not_name_html_gets_a_short_answer(serve, accept):
    async with serve() as running:
        response = await running.client.get("/", headers={"Accept": accept})
    assert (response.status_code, response.json()) == (200, ALIVE)
    assert response.headers["vary"] == "Accept"


async def test_a_browser_gets_the_page_with_a_policy_that_admits_no_other_host(serve):
    async with serve() as running:
        response = await running.client.get("/", headers=BROWSER)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert '<base href="/">' in response.text


async def test_the_page_is_small(serve):
    async with serve() as running:
        sizes = [
            len((await running.client.get(path, headers=BROWSER)).raise_for_status().content)
            for path in ("/", "/playground/playground.js", "/playground/playground.css")
        ]
    assert sum(sizes) <= 200_000


async def test_without_the_playground_a_browser_gets_the_short_answer_too(serve):
    async with serve(playground=False) as running:
        root = await running.client.get("/", headers=BROWSER)
        others = [
            (await running.client.get(path)).status_code
            for path in ("/status", "/playground/samples", "/playground/playground.js")
        ]
    assert root.json() == ALIVE
    assert others == [404, 404, 404]


async def test_the_bundled_scenes_are_the_samples(serve):
    async with serve() as running:
        listed = (await running.client.get("/playground/samples")).json()["samples"]
        images = [await running.client.get(each["url"]) for each in listed]
    assert [each["name"] for each in listed] == sorted(path.name for path in SAMPLES.iterdir())
    assert {image.headers["content-type"] for image in images} == {"image/png"}
    assert images[0].content == (SAMPLES / listed[0]["name"]).read_bytes()


async def test_a_folder_of_ones_own_replaces_the_scenes(serve, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a cat & a dog?.JPG", "JPEG")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a link out of the folder.png").symlink_to(SAMPLES / sample_names(SAMPLES)[0])
    async with serve(samples=str(tmp_path)) as running:
        (listed,) = (await running.client.get("/playground/samples")).json()["samples"]
        image = await running.client.get(listed["url"])
    assert listed["name"] == "a cat & a dog?.JPG"
    assert (image.status_code, image.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden.png", "%2e%2e%2fsecret.png", "missing.png"])
async def test_only_images_inside_the_folder_are_sent(serve, tmp_path, name):
    folder = tmp_path / "samples"
    folder.mkdir()
    for path in (folder / "notes.txt", folder / ".hidden.png", tmp_path / "secret.png"):
        path.write_bytes(b"content")
    async with serve(samples=str(folder)) as running:
        response = await running.client.get(f"/playground/samples/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["__init__.py", "index.html", "samples/"])
async def test_only_script_and_style_of_the_page_are_sent(serve, name):
    async with serve() as running:
        assert (await running.client.get(f"/playground/{name}")).status_code == 404


async def test_a_file_that_the_browser_has_is_not_sent_again(serve):
    url = f"/playground/samples/{sample_names(SAMPLES)[0]}"
    async with serve() as running:
        first = await running.client.get(url)
        second = await running.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")


async def test_only_files_that_can_be_sent_are_listed(serve, tmp_path):
    folder, secret = tmp_path / "samples", tmp_path / "secret.png"
    folder.mkdir()
    for path in (secret, folder / "good.png"):
        Image.new("RGB", (4, 4)).save(path)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    for name, target in {"in": "good", "out": "../secret", "circle": "circle", "no": "no"}.items():
        (folder / f"{name}.png").symlink_to(f"{target}.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / os.fsdecode(b"\xff.png")).touch()
    async with serve(samples=str(folder)) as running:
        listed = (await running.client.get("/playground/samples")).json()["samples"]
        statuses = {
            name: (await running.client.get(f"/playground/samples/{name}.png")).status_code
            for name in ("good", "in", "out", "circle", "zero", "pipe", "folder", "%00", "%FF")
        }
    assert [each["name"] for each in listed] == ["good.png", "in.png"]
    assert [name for name, status in statuses.items() if status == 200] == ["good", "in"]
    assert set(statuses.values()) == {200, 404}


def test_a_large_folder_is_listed_in_part(tmp_path):
    for number in range(MAX_SAMPLES + 3):
        (tmp_path / f"{number:03}.png").touch()
    names = sample_names(tmp_path)
    assert names == [f"{number:03}.png" for number in range(MAX_SAMPLES)]


@pytest.mark.parametrize("path", ["/vision/", "/"])
async def test_behind_a_prefix_the_addresses_of_the_page_begin_with_it(serve, path):
    async with serve(root_path="/vision") as running:
        page = await running.client.get(path, headers=BROWSER)
        answer = await running.client.get("/vision/livez")
        document = (await running.client.get("/vision/openapi.json")).json()
    assert '<base href="/vision/">' in page.text
    assert answer.status_code == 200
    assert document["servers"] == [{"url": "/vision"}]


async def test_a_path_that_only_begins_like_the_prefix_is_another_path(serve):
    async with serve(root_path="/vision") as running:
        assert (await running.client.get("/visionary/livez")).status_code == 404
