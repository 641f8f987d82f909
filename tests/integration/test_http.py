"""The HTTP contract, as a real process keeps it over real connections."""

import asyncio
import base64
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.anyio
SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def service(launch):
    with launch("--max-body-bytes", 2_000_000, "--max-image-pixels", 1_000_000) as service:
        yield service


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        yield client


def png(size=(40, 30), colour="red") -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


async def test_every_form_of_a_body_is_understood(client):
    encoded = base64.b64encode(png()).decode()
    answers = [
        await client.post("/classify", content=png()),
        await client.post("/classify", files={"file": ("x.png", png(), "image/png")}),
        await client.post("/classify", json={"image": encoded}),
        await client.post("/classify", json={"image": f"data:image/png;base64,{encoded}"}),
        await client.post("/classify", content=chunks(png())),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def chunks(data: bytes):
    """A body of unknown length."""
    for start in range(0, len(data), 7):
        yield data[start : start + 7]


@pytest.mark.parametrize(
    ("status", "code", "path", "request_"),
    [
        (400, "empty_body", "/classify", {}),
        (400, "malformed_request", "/classify", {"json": {"image": 3}}),
        (400, "malformed_request", "/segment", {"files": {"picture": b"x"}}),
        (404, "not_found", "/nothing", {}),
        (406, "not_acceptable", "/segment", {"headers": {"Accept": "text/html"}}),
        (413, "payload_too_large", "/classify", {"content": bytes(2_000_001)}),
        (413, "image_too_large", "/classify", {"content": png((1001, 1000))}),
        (415, "unsupported_image_format", "/segment", {"content": b"%PDF-1.7"}),
        (422, "invalid_image", "/segment", {"content": png()[:60]}),
        (422, "invalid_parameter", "/classify?top_k=1000", {"content": png()}),
        (422, "invalid_parameter", "/segment?render=x", {"content": png()}),
    ],
)
async def test_each_error_of_the_contract(client, status, code, path, request_):
    answer = await client.post(path, **request_)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_wrong_method_is_a_problem_too(client):
    answer = await client.get("/classify")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


async def test_a_body_that_is_longer_than_it_may_be_is_refused_while_it_comes(client):
    async def endless():
        for _ in range(40):
            yield bytes(100_000)

    answer = await client.post("/classify", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_a_deadline_too_short_for_anything_answers_504(client):
    answer = await client.post(
        "/segment", content=png((1000, 1000)), headers={"X-Request-Timeout-Ms": "1"}
    )
    assert answer.status_code in (503, 504)
    assert answer.json()["code"] in ("overloaded", "deadline_exceeded")


async def test_the_samples_get_the_labels_and_masks_of_their_truth(client, truth):
    for name, entry in truth.items():
        data = (SAMPLES / name).read_bytes()
        best = (await client.post("/classify", content=data)).json()["predictions"][0]
        assert best["label"] == entry["label"]
        mask = Image.open(BytesIO((await client.post("/segment", content=data)).content))
        expected = np.asarray(Image.open(SAMPLES / entry["mask"]))
        assert (np.asarray(mask) == expected).mean() > 0.97


async def test_relevance_falls_on_what_the_label_names(client, truth):
    for name, entry in truth.items():
        data = (SAMPLES / name).read_bytes()
        picture = await client.post("/explain", content=data)
        numbers = await client.post(
            "/explain", content=data, headers={"Accept": "application/json"}
        )
        drawn, told = Image.open(BytesIO(picture.content)), numbers.json()
        with Image.open(SAMPLES / name) as scene:
            assert drawn.size == scene.size
        assert drawn.text["label"] == told["predictions"][0]["label"] == entry["label"]
        rows, columns = np.shape(told["relevance"])
        shape = np.asarray(Image.open(SAMPLES / entry["mask"])) > 0
        cells = Image.fromarray(shape.astype(np.float32)).resize((columns, rows), Image.BOX)
        assert np.sum(told["relevance"] * np.asarray(cells)) > 1.2 * shape.mean()


async def test_an_image_and_its_turned_copy_have_embeddings_that_differ(client, truth):
    scene = Image.open(SAMPLES / next(iter(truth)))
    embeddings = []
    for image in (scene, scene, scene.rotate(90)):
        file = BytesIO()
        image.save(file, "PNG")
        answer = await client.post("/classify?output=embedding", content=file.getvalue())
        embeddings.append(answer.json()["embedding"])
    assert embeddings[0] == pytest.approx(embeddings[1], abs=1e-4)
    assert np.abs(np.subtract(embeddings[0], embeddings[2])).max() > 0.1


async def test_both_models_answer_at_the_same_time(client):
    requests = [
        client.post(path, content=png((50 + i, 40)))
        for i in range(12)
        for path in ("/classify", "/segment")
    ]
    answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {200}
    for i, answer in enumerate(answers[1::2]):
        assert Image.open(BytesIO(answer.content)).size == (50 + i, 40)


async def test_the_machine_readable_surface_is_there(client):
    for path in ("/livez", "/readyz", "/startupz", "/models", "/openapi.json"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
    series = (await client.get("/metrics")).text
    assert "patchserve_ready 1.0" in series
    assert "process_resident_memory_bytes" in series
