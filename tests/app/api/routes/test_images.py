"""POST /classify and /segment over ASGI, with a fake engine: bodies, parameters, errors."""

import asyncio
import base64
import json
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.anyio


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


async def test_every_form_of_a_body_gets_the_same_response(serve, picture):
    data = picture("green")
    encoded = base64.b64encode(data).decode()
    async with serve() as running:
        post = running.client.post
        responses = [
            await post("/classify", content=data),
            await post("/classify", content=data, headers={"Content-Type": "image/png"}),
            await post(
                "/classify",
                content=data,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            ),
            await post("/classify", files={"file": ("x.png", data)}),
            await post("/classify", json={"image": encoded}),
            await post("/classify", json={"image": f"data:image/png;base64,{encoded}"}),
        ]
    for response in responses:
        assert response.status_code == 200
        assert response.json()["predictions"][0] == {"label": "green", "index": 2, "score": 0.7}
        assert response.json()["model"] == "shapes-vit"


async def test_top_k_limits_the_predictions(serve, picture):
    async with serve() as running:
        default = await running.client.post("/classify", content=picture())
        two = await running.client.post("/classify?top_k=2", content=picture())
        assert len(default.json()["predictions"]) == 4  # as many as there are labels
        assert [p["label"] for p in two.json()["predictions"]] == ["red", "black"]


@pytest.mark.parametrize("value", ["0", "5", "-1", "x", "", "1.5", "9" * 30, "²"])
async def test_a_top_k_out_of_range_is_refused(serve, picture, value):
    async with serve() as running:
        response = await running.client.post(
            "/classify", params={"top_k": value}, content=picture()
        )
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_parameter"
    assert "1 to 4" in response.json()["detail"]


async def test_a_misspelt_parameter_is_refused(serve, picture):
    async with serve() as running:
        response = await running.client.post("/classify?topk=2", content=picture())
    assert response.status_code == 422
    assert "top_k" in response.json()["detail"]


async def test_a_mask_has_the_size_of_the_image_and_the_labels(serve, picture):
    async with serve() as running:
        response = await running.client.post("/segment", content=picture("blue", (31, 17)))
    assert response.headers["content-type"] == "image/png"
    mask = opened(response.content)
    assert (mask.mode, mask.size) == ("P", (31, 17))
    assert (np.asarray(mask) == 3).all()
    assert json.loads(mask.text["labels"])["3"] == "blue"


async def test_render_selects_the_kind_of_mask(serve, picture):
    async with serve() as running:
        color = await running.client.post("/segment?render=color", content=picture("blue"))
        overlay = await running.client.post("/segment?render=overlay", content=picture("blue"))
        wrong = await running.client.post("/segment?render=colour", content=picture("blue"))
    assert opened(color.content).getpixel((0, 0)) == (240, 228, 66)
    assert opened(overlay.content).getpixel((0, 0)) == (120, 114, 160)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameter")


async def test_accept_selects_json(serve, picture):
    async with serve() as running:
        response = await running.client.post(
            "/segment", content=picture("red", (5, 4)), headers={"Accept": "application/json"}
        )
    body = response.json()
    assert (body["width"], body["height"]) == (5, 4)
    (found,) = body["segments"]
    assert found["label"] == "red"
    assert found["area"] == 20
    assert found["fraction"] == 1.0
    assert found["bbox"] == [0, 0, 5, 4]
    assert found["rle"]["size"] == [4, 5]
    assert found["confidence"] == pytest.approx(0.8)
    assert (np.asarray(opened(base64.b64decode(body["mask"]))) == 1).all()


@pytest.mark.parametrize("media_type", ["image/png", "application/json"])
async def test_confidence_is_a_grey_picture_of_the_images_size(serve, picture, media_type):
    async with serve() as running:
        response = await running.client.post(
            "/segment?render=confidence",
            content=picture("red", (5, 4)),
            headers={"Accept": media_type},
        )
    assert response.headers["content-type"] == media_type
    as_json = media_type == "application/json"
    file = base64.b64decode(response.json()["mask"]) if as_json else response.content
    image = opened(file)
    assert (image.mode, image.size) == ("L", (5, 4))
    assert (np.asarray(image) == 204).all()  # 0.8 * 255
    assert "255" in image.text["confidence"]


async def test_repeated_accept_headers_count_as_one(serve, picture):
    lines = [("Accept", "text/html"), ("Accept", "application/json")]
    async with serve() as running:
        response = await running.client.post("/segment", content=picture(), headers=lines)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "accept"), [("/segment", "text/html"), ("/classify", "image/png")]
)
async def test_an_accept_without_a_possible_media_type_is_refused(serve, picture, path, accept):
    async with serve() as running:
        response = await running.client.post(path, content=picture(), headers={"Accept": accept})
    assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        (400, "empty_body", {"content": b""}),
        (400, "malformed_request", {"json": {"picture": ""}}),
        (400, "malformed_request", {"json": {"image": "%%%"}}),
        (400, "malformed_request", {"files": {"photo": b"x"}}),
        (413, "payload_too_large", {"content": b"x" * 2000}),
        (415, "unsupported_image_format", {"content": b"hello"}),
        (422, "invalid_image", {"content": b"\x89PNG\r\n\x1a\n and then nothing"}),
        (422, "invalid_parameter", {"content": b"x", "headers": {"X-Request-Timeout-Ms": "0"}}),
    ],
)
async def test_an_invalid_request_gets_the_right_problem(serve, status, code, request_):
    async with serve(max_body_bytes=1000) as running:
        response = await running.client.post("/classify", **request_)
        series = await running.series()
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["type"].endswith(code)
    if code != "invalid_parameter":
        assert f'images_total{{model="shapes-vit",outcome="{code}"}} 1.0' in series


async def test_an_image_with_too_many_pixels_is_refused_with_the_limit(serve, picture):
    async with serve(max_image_pixels=100) as running:
        response = await running.client.post("/segment", content=picture(size=(11, 10)))
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")
    assert response.json()["limits"] == {"max_image_pixels": 100}


async def test_a_task_without_a_model_is_refused(serve, picture):
    async with serve(segmenter="none") as running:
        response = await running.client.post("/segment", content=picture())
        assert (response.status_code, response.json()["code"]) == (404, "model_not_loaded")
        assert (await running.client.get("/readyz")).status_code == 200


async def test_a_full_queue_returns_503_with_a_retry_after(serve, picture):
    async with serve(max_queue_size=1, max_batch_size=1, cores=1) as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        running_one = asyncio.create_task(running.client.post("/classify", content=picture()))
        await asyncio.to_thread(engine.entered.wait, 30)
        queued = asyncio.create_task(running.client.post("/classify", content=picture()))
        await running.until_series('queue_depth{model="shapes-vit"} 1.0')
        refused = await running.client.post("/classify", content=picture())
        engine.run_gate.set()
        assert {(await running_one).status_code, (await queued).status_code} == {200}
        series = await running.series()
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (503, "overloaded")
    assert problem["retryable"] is True
    assert problem["retry_after_ms"] > 0
    assert int(refused.headers["retry-after"]) * 1000 >= problem["retry_after_ms"]
    assert 'rejections_total{model="shapes-vit",reason="queue_full"} 1.0' in series


@pytest.mark.parametrize(
    ("share_by", "first", "second"), [("client", 503, 200), ("none", 200, 503)]
)
async def test_a_client_that_fills_the_queue_makes_room_for_another(
    serve, picture, share_by, first, second
):
    keys = ["key-of-the-first-client", "key-of-the-second-client"]
    limits = {"max_queue_size": 2, "max_batch_size": 1, "cores": 1}
    async with serve(**limits, api_keys=",".join(keys), share_by=share_by) as running:

        def send(key: int) -> asyncio.Task[httpx.Response]:
            headers = {"X-API-Key": keys[key]}
            post = running.client.post("/classify", content=picture(), headers=headers)
            return asyncio.create_task(post)

        engine = running.engines["classify"]
        engine.run_gate.clear()
        tasks = [send(0)]
        await asyncio.to_thread(engine.entered.wait, 30)
        for depth in (1, 2):
            tasks.append(send(0))
            await running.until_series(f'queue_depth{{model="shapes-vit"}} {depth}.0')
        guest = send(1)
        await asyncio.wait([guest, tasks[-1]], return_when=asyncio.FIRST_COMPLETED)
        engine.run_gate.set()
        statuses = [(await task).status_code for task in [*tasks, guest]]
        series = await running.series()
    assert statuses == [200, 200, first, second]
    reason = "displaced" if share_by == "client" else "queue_full"
    assert f'rejections_total{{model="shapes-vit",reason="{reason}"}} 1.0' in series


async def test_a_missed_deadline_returns_504(serve, picture):
    async with serve() as running:
        running.engines["classify"].run_gate.clear()
        response = await running.client.post(
            "/classify", content=picture(), headers={"X-Request-Timeout-Ms": "50"}
        )
        series = await running.series()
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert 'deadline_missed_total{model="shapes-vit",where="compute"} 1.0' in series


async def test_a_failed_batch_returns_500_without_its_reason(serve, picture):
    async with serve() as running:
        running.engines["classify"].run_error = RuntimeError("/secret/path broke")
        response = await running.client.post("/classify", content=picture())
        running.engines["classify"].run_error = None
        again = await running.client.post("/classify", content=picture())
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert again.status_code == 200


async def test_the_response_has_a_server_timing_header(serve, picture):
    async with serve() as running:
        classified = await running.client.post("/classify", content=picture())
        segmented = await running.client.post("/segment", content=picture())
        series = await running.series()
    stages = ["read", "decode", "queue", "stage_in", "compute", "postprocess"]
    for stage in stages:
        assert f"{stage};dur=" in classified.headers["server-timing"]
        assert f'stage="{stage}"}} 1.0' in series
    assert 'batch;desc="1"' in classified.headers["server-timing"]
    assert "encode;dur=" in segmented.headers["server-timing"]


@pytest.mark.parametrize("path", ["/classify", "/segment", "/explain"])
async def test_after_the_lame_duck_time_a_request_is_refused_before_its_body_is_read(serve, path):
    async def body():
        raise AssertionError("the body was read")
        yield b""

    async with serve(lame_duck_s=0) as running:
        running.state["shutdown"].begin()
        response = await running.client.post(path, content=body())
        series = await running.series()
    assert response.status_code == 503
    problem = response.json()
    assert (problem["code"], problem["retryable"]) == ("draining", True)
    assert response.headers["retry-after"] == "1"
    model = "shapes-segformer" if path == "/segment" else "shapes-vit"
    assert f'rejections_total{{model="{model}",reason="draining"}} 1.0' in series
    assert f'images_total{{model="{model}",outcome="draining"}} 1.0' in series


async def test_a_request_that_the_server_cancels_in_a_shutdown_gets_503(serve, picture):
    async with serve(lame_duck_s=0) as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        answering = asyncio.create_task(running.client.post("/classify", content=picture()))
        await asyncio.to_thread(engine.entered.wait, 30)
        running.state["shutdown"].begin()
        answering.cancel()
        response = await answering
        assert (response.status_code, response.json()["code"]) == (503, "draining")
        assert 'outcome="draining"} 1.0' in await running.series()
        engine.run_gate.set()
