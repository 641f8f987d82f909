"""The HTTP contract of the real process over real connections."""

import asyncio
import base64
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.hostile.case import SIDE
from tests.hostile.png import chunk, header
from tests.rasterize import rasterized

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group(name="bundled")]  # they share a service
SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture
async def client(bundled):
    async with httpx.AsyncClient(base_url=bundled.url, timeout=60) as client:
        yield client


def png(size=(40, 30), color="red") -> bytes:
    file = BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


async def test_every_form_of_a_body_gives_the_same_result(client):
    encoded = base64.b64encode(png()).decode()
    responses = [
        await client.post("/classify", content=png()),
        await client.post("/classify", files={"file": ("x.png", png(), "image/png")}),
        await client.post("/classify", json={"image": encoded}),
        await client.post("/classify", json={"image": f"data:image/png;base64,{encoded}"}),
        await client.post("/classify", content=chunks(png())),
    ]
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1


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
        (413, "image_too_large", "/classify", {"content": header(SIDE, SIDE + 2) + chunk(b"IEND")}),
        (415, "unsupported_image_format", "/segment", {"content": b"%PDF-1.7"}),
        (422, "invalid_image", "/segment", {"content": png()[:60]}),
        (422, "invalid_parameter", "/classify?top_k=1000", {"content": png()}),
        (422, "invalid_parameter", "/segment?render=x", {"content": png()}),
    ],
)
async def test_each_error_is_a_problem_with_its_code(client, status, code, path, request_):
    response = await client.post(path, **request_)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_a_wrong_method_is_a_problem(client):
    response = await client.get("/classify")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


async def test_a_deadline_that_cannot_be_met_is_an_error(client):
    response = await client.post(
        "/segment", content=png((1000, 1000)), headers={"X-Request-Timeout-Ms": "1"}
    )
    assert response.status_code in (503, 504)
    assert response.json()["code"] in ("overloaded", "deadline_exceeded")


async def test_the_samples_get_their_true_labels_and_masks(client, truth):
    for name, entry in truth.items():
        data = (SAMPLES / name).read_bytes()
        best = (await client.post("/classify", content=data)).json()["predictions"][0]
        assert best["label"] == entry["label"]
        mask = Image.open(BytesIO((await client.post("/segment", content=data)).content))
        expected = np.asarray(Image.open(SAMPLES / entry["mask"]))
        assert (np.asarray(mask) == expected).mean() > 0.97


async def test_polygons_cover_the_mask_of_their_class(client, truth):
    for name in truth:
        body = (
            await client.post(
                "/segment?polygons=true&tolerance=0.5",
                content=(SAMPLES / name).read_bytes(),
                headers={"Accept": "application/json"},
            )
        ).json()
        mask = np.asarray(Image.open(BytesIO(base64.b64decode(body["mask"]))))
        assert len(body["segments"]) == len(np.unique(mask))
        for segment in body["segments"]:
            covered = rasterized(segment["polygons"], mask.shape)
            np.testing.assert_array_equal(covered, mask == segment["index"])


async def test_the_confidence_of_a_class_is_the_mean_of_its_pixels_in_the_picture(client, truth):
    data = (SAMPLES / next(iter(truth))).read_bytes()
    plain = await client.post("/segment", content=data)
    labels = np.asarray(Image.open(BytesIO(plain.content)))
    picture = await client.post("/segment?render=confidence", content=data)
    probability = np.asarray(Image.open(BytesIO(picture.content))) / 255
    as_json = {"headers": {"Accept": "application/json"}}
    for path in ("/segment", "/segment?render=confidence"):
        body = (await client.post(path, content=data, **as_json)).json()
        assert len(body["segments"]) > 1
        for found in body["segments"]:
            mean = probability[labels == found["index"]].mean()
            assert found["confidence"] == pytest.approx(mean, abs=0.5 / 255)
            assert 1 / 7 < found["confidence"] <= 1  # the best of seven classes
    assert base64.b64decode(body["mask"]) == picture.content
    edge = labels != np.roll(labels, 1, axis=1)
    assert probability[edge].mean() < probability[~edge].mean()


async def test_relevance_is_highest_on_the_labelled_shape(client, truth):
    for name, entry in truth.items():
        data = (SAMPLES / name).read_bytes()
        picture = await client.post("/explain", content=data)
        numbers = await client.post(
            "/explain", content=data, headers={"Accept": "application/json"}
        )
        drawn, explanation = Image.open(BytesIO(picture.content)), numbers.json()
        with Image.open(SAMPLES / name) as scene:
            assert drawn.size == scene.size
        assert drawn.text["label"] == explanation["predictions"][0]["label"] == entry["label"]
        rows, columns = np.shape(explanation["relevance"])
        mask = np.asarray(Image.open(SAMPLES / entry["mask"])) > 0
        cells = Image.fromarray(mask.astype(np.float32)).resize((columns, rows), Image.BOX)
        assert np.sum(explanation["relevance"] * np.asarray(cells)) > 1.2 * mask.mean()


async def test_an_image_and_its_rotated_copy_have_different_embeddings(client, truth):
    scene = Image.open(SAMPLES / next(iter(truth)))
    embeddings = []
    for image in (scene, scene, scene.rotate(90)):
        file = BytesIO()
        image.save(file, "PNG")
        response = await client.post("/classify?output=embedding", content=file.getvalue())
        embeddings.append(response.json()["embedding"])
    assert embeddings[0] == pytest.approx(embeddings[1], abs=1e-4)
    assert np.abs(np.subtract(embeddings[0], embeddings[2])).max() > 0.1


async def test_both_models_serve_concurrent_requests(client):
    requests = [
        client.post(path, content=png((50 + i, 40)))
        for i in range(12)
        for path in ("/classify", "/segment")
    ]
    responses = await asyncio.gather(*requests)
    assert {response.status_code for response in responses} == {200}
    for i, response in enumerate(responses[1::2]):
        assert Image.open(BytesIO(response.content)).size == (50 + i, 40)


async def test_probes_models_document_and_metrics_are_served(client):
    for path in ("/livez", "/readyz", "/startupz", "/models", "/openapi.json"):
        response = await client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
    series = (await client.get("/metrics")).text
    assert "patchserve_ready 1.0" in series
    assert "process_resident_memory_bytes" in series
