"""POST /explain and the embedding of POST /classify, over ASGI, with a fake engine."""

import asyncio
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.anyio
AS_JSON = {"Accept": "application/json"}


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def rotated(size: tuple[int, int]) -> bytes:
    """A JPEG whose EXIF orientation is a rotation by 90 degrees."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size, "green").save(file, "JPEG", exif=exif)
    return file.getvalue()


async def test_output_selects_the_embedding(serve, picture):
    async with serve() as running:
        post = running.client.post
        embedding = await post("/classify?output=embedding", content=picture("green"))
        labels = await post("/classify?output=labels", content=picture("green"))
        wrong = await post("/classify?output=logits", content=picture())
    assert embedding.json() == {"model": "shapes-vit", "embedding": [2.0, 0.5]}
    assert labels.json()["predictions"][0]["label"] == "green"
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameter")


async def test_relevance_is_drawn_over_the_image_at_its_size(serve, picture):
    async with serve() as running:
        response = await running.client.post("/explain", content=picture("blue", (30, 20)))
        tall = await running.client.post("/explain", content=rotated((30, 20)))
    assert response.headers["content-type"] == "image/png"
    drawn = opened(response.content)
    assert (drawn.mode, drawn.size) == ("RGB", (30, 20))
    brightness = np.asarray(drawn).sum(2, dtype=int)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert y < 10  # the fake engine puts it in the upper left
    assert x < 15
    assert drawn.text == {"label": "blue", "score": "0.7000", "method": "gradient"}
    assert opened(tall.content).size == (20, 30)


async def test_accept_selects_json(serve, picture):
    async with serve() as running:
        response = await running.client.post(
            "/explain?top_k=2&method=rollout", content=picture("blue", (30, 20)), headers=AS_JSON
        )
    assert response.json() == {
        "model": "shapes-vit",
        "method": "rollout",
        "predictions": [
            {"label": "blue", "index": 3, "score": 0.7},
            {"label": "black", "index": 0, "score": 0.1},
        ],
        "relevance": [[0.0, 1.0], [0.0, 0.0]],
        "box": [0.0, 0.0, 30.0, 20.0],
        "attention_distance": [[1.5, 2.5], [3.0, 4.0]],
    }


@pytest.mark.parametrize(
    ("status", "code", "path", "headers"),
    [
        (406, "not_acceptable", "/explain", {"Accept": "text/html"}),
        (422, "invalid_parameter", "/explain?method=lime", {}),
        (422, "invalid_parameter", "/explain?top_k=9", {}),
        (422, "invalid_parameter", "/explain?render=mask", {}),
    ],
)
async def test_an_invalid_request_is_refused(serve, picture, status, code, path, headers):
    async with serve() as running:
        response = await running.client.post(path, content=picture(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_without_a_classifier_the_request_is_refused(serve, picture):
    async with serve(classifier="none") as running:
        response = await running.client.post("/explain", content=picture())
    assert (response.status_code, response.json()["code"]) == (404, "model_not_loaded")


async def test_different_operations_do_not_share_a_batch(serve, picture):
    async with serve(max_batch_size=8, cores=1) as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        paths = ("/classify", "/classify?output=embedding", "/explain")
        first = asyncio.create_task(running.client.post("/classify", content=picture()))
        await asyncio.to_thread(engine.entered.wait, 30)
        others = [
            asyncio.create_task(running.client.post(path, content=picture())) for path in 2 * paths
        ]
        await running.until_series('queue_depth{model="shapes-vit"} 6.0')
        engine.run_gate.set()
        responses = [await task for task in (first, *others)]
    assert {response.status_code for response in responses} == {200}
    assert sum(engine.batches) == 7


async def test_an_explanation_is_counted_and_timed_like_other_responses(serve, picture):
    async with serve() as running:
        response = await running.client.post("/explain", content=picture())
        series = await running.series()
    for stage in ("read", "decode", "queue", "stage_in", "compute", "postprocess", "encode"):
        assert f"{stage};dur=" in response.headers["server-timing"]
    assert 'http_requests_total{code="200",method="POST",route="/explain"} 1.0' in series
    assert 'images_total{model="shapes-vit",outcome="ok"} 1.0' in series
