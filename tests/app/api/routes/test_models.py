"""GET /models and GET /models/{name}, over ASGI, with a fake engine."""

import pytest

pytestmark = pytest.mark.anyio


async def test_models_are_described(serve):
    async with serve() as running:
        listed = (await running.client.get("/models")).json()["models"]
        one = (await running.client.get("/models/shapes-vit")).json()
        missing = await running.client.get("/models/other")
    assert [model["task"] for model in listed] == ["classify", "segment"]
    assert one == listed[0]
    assert one["labels"] == ["black", "red", "green", "blue"]
    assert one["input_size"] == [8, 8]
    assert one["parameters"] == 1234
    assert one["batch_costs"][0] == {"lane": "wide", "batch_size": 1, "seconds": 0.1}
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
