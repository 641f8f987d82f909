"""GET /models and GET /models/{name}, over ASGI, with a fake engine."""

from dataclasses import replace

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


@pytest.mark.parametrize(("assumed", "source"), [(False, "checkpoint"), (True, "assumed")])
async def test_a_model_says_where_its_preprocessing_comes_from(serve, assumed, source):
    def prepare(engine):
        info = replace(engine.load(), preprocessing_assumed=assumed)
        engine.load = lambda: info

    async with serve(prepare) as running:
        one = (await running.client.get("/models/shapes-vit")).json()
    assert one["preprocessing_source"] == source
    assert one["problem_type"] == "single_label_classification"


async def test_a_model_lists_what_was_assumed(serve):
    def prepare(engine):
        info = replace(engine.load(), assumptions=("the labels are numbered", "other"))
        engine.load = lambda: info

    async with serve(prepare) as running:
        one = (await running.client.get("/models/shapes-vit")).json()
    async with serve() as running:
        other = (await running.client.get("/models/shapes-vit")).json()
    assert one["assumptions"] == ["the labels are numbered", "other"]
    assert other["assumptions"] == []
