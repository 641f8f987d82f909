"""POST /segment with colors, overlays and polygons, and POST /classify with a threshold."""

import base64
from dataclasses import replace
from functools import partial
from io import BytesIO

import pytest
from PIL import Image

from app.engine.interface import ModelInfo

pytestmark = pytest.mark.anyio

JSON = {"Accept": "application/json"}


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def with_info(engine, **changes: object) -> None:
    """Let a fake engine load a model that differs in these attributes."""
    load = engine.load

    def changed() -> ModelInfo:
        return replace(load(), **changes)

    engine.load = changed


async def test_a_segment_has_the_color_of_the_mask(serve, picture):
    async with serve() as running:
        response = await running.client.post("/segment", content=picture("blue"), headers=JSON)
    (segment,) = response.json()["segments"]
    mask = opened(base64.b64decode(response.json()["mask"])).convert("RGB")
    assert segment["color"] == "#" + bytes(mask.getpixel((0, 0))).hex() == "#f0e442"


async def test_polygons_are_sent_only_if_asked_for(serve, picture):
    async with serve() as running:
        post = partial(running.client.post, content=picture("blue", (6, 4)), headers=JSON)
        without, with_polygons = await post("/segment"), await post("/segment?polygons=true")
    (segment,) = without.json()["segments"]
    assert "polygons" not in segment
    polygons = [[0, 0, 6, 0, 6, 4, 0, 4]]
    assert with_polygons.json()["segments"] == [segment | {"polygons": polygons}]


async def test_a_json_body_asks_for_polygons_with_true(serve, picture):
    body = {"image": base64.b64encode(picture("red", (3, 2))).decode(), "polygons": True}
    async with serve() as running:
        exact = await running.client.post("/segment", json=body | {"tolerance": 0}, headers=JSON)
    (segment,) = exact.json()["segments"]
    assert segment["polygons"] == [[0, 0, 3, 0, 3, 2, 0, 2]]


async def test_polygons_as_a_png_are_refused_rather_than_ignored(serve, picture):
    async with serve() as running:
        response = await running.client.post("/segment?polygons=true", content=picture())
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert "Accept: application/json" in response.json()["detail"]


async def test_an_overlay_leaves_the_background_as_it_is(serve, picture):
    """The picture is black, so its class is the first one."""
    labels = ("Background", "red", "green", "blue")
    prepare = partial(with_info, labels=labels)
    async with serve(prepare) as running:
        post = partial(running.client.post, content=picture("black"))
        unpainted = await post("/segment?render=overlay&opacity=1")
        other = await post("/segment?render=overlay&opacity=1&background=red")
        color = await post("/segment?render=color")
        numbers = await post("/segment", headers={"Accept": "application/json"})
    assert numbers.json()["background"] == 0
    assert opened(unpainted.content).getpixel((0, 0)) == (0, 0, 0)
    assert opened(other.content).getpixel((0, 0)) == opened(color.content).getpixel((0, 0))


async def test_opacity_and_background_change_the_overlay(serve, picture):
    async with serve() as running:
        post = partial(running.client.post, content=picture("blue"))
        numbers = await post("/segment", headers={"Accept": "application/json"})
        solid = await post("/segment?render=overlay&opacity=1")
        nothing = await post("/segment?render=overlay&opacity=0")
        unpainted = await post("/segment?render=overlay&opacity=1&background=blue")
    assert numbers.json()["background"] is None
    assert opened(solid.content).getpixel((0, 0)) == (240, 228, 66)
    assert opened(nothing.content).getpixel((0, 0)) == (0, 0, 255)
    assert opened(unpainted.content).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("threshold=0", ["green", "black", "red", "blue"]),
        ("threshold=0.1", ["green", "black", "red", "blue"]),
        ("threshold=0.7", ["green"]),
        ("threshold=0.1&top_k=2", ["green", "black"]),
        ("threshold=0.71", []),
        ("threshold=1&top_k=1", []),
    ],
)
async def test_only_labels_with_the_threshold_or_more_are_returned(serve, picture, query, labels):
    async with serve() as running:
        response = await running.client.post(f"/classify?{query}", content=picture("green"))
    assert response.status_code == 200
    assert [each["label"] for each in response.json()["predictions"]] == labels


async def test_a_form_may_have_a_threshold(serve, picture):
    async with serve() as running:
        response = await running.client.post(
            "/classify", files={"file": picture("red")}, data={"threshold": "0.5"}
        )
    assert [each["label"] for each in response.json()["predictions"]] == ["red"]


async def test_a_regression_has_no_threshold(serve, picture):
    async with serve(partial(with_info, problem_type="regression")) as running:
        plain = await running.client.post("/classify", content=picture())
        refused = await running.client.post("/classify?threshold=0.5", content=picture())
    assert plain.status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
    assert "regression" in refused.json()["detail"]
