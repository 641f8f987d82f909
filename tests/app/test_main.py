"""The composition root: models and their names, `create_app`, and the OpenAPI document."""

import sys

import pytest

from app import main
from app.api.openapi import COMPONENTS
from app.core.settings import Settings
from app.engine.placement import LoadOptions
from app.main import create_app, model_names, options

pytestmark = pytest.mark.anyio


def test_two_checkpoints_with_one_name_get_their_task_appended():
    names = model_names({"classify": "me/shapes", "segment": "/data/shapes"})
    assert names == {"classify": "shapes-classify", "segment": "shapes-segment"}


def test_a_name_is_the_last_part_of_a_source_without_its_revision():
    assert model_names({"classify": "google/vit-base@main"}) == {"classify": "vit-base"}


def test_a_missing_device_is_refused_at_once():
    with pytest.raises(ValueError, match="cuda:63"):
        create_app(Settings(device="cuda:63"))


def test_a_service_without_any_model_is_refused():
    with pytest.raises(ValueError, match="no model"):
        create_app(Settings(classifier="none", segmenter="none"))


def test_each_model_has_its_own_input_size():
    settings = Settings(classifier_input_size=384)
    assert options(settings, "classify", "cpu")["input_size"] == 384
    assert options(settings, "segment", "cpu")["input_size"] == 0


def test_each_model_has_its_own_labels_file_and_the_classifier_an_architecture(tmp_path):
    for name in ("one.txt", "other.txt"):
        (tmp_path / name).touch()
    files = {"classifier_labels": tmp_path / "one.txt", "segmenter_labels": tmp_path / "other.txt"}
    texts = {name: str(path) for name, path in files.items()}
    settings = Settings(arch="vit_b_16", strict=True, **texts)
    assert options(settings, "classify", "cpu")["load_options"] == LoadOptions(
        arch="vit_b_16", labels_file=files["classifier_labels"], strict=True
    )
    assert options(settings, "segment", "cpu")["load_options"] == LoadOptions(
        labels_file=files["segmenter_labels"], strict=True
    )
    assert options(Settings(), "classify", "cpu")["load_options"] == LoadOptions()


def test_the_app_of_a_plain_server_reads_the_environment(monkeypatch, caplog):
    prepared = []
    monkeypatch.setattr(main, "prepare_process", prepared.append)
    monkeypatch.setattr(main.logs, "configure", lambda level: None)
    monkeypatch.setenv("PATCHSERVE_SEGMENTER", "none")
    monkeypatch.setenv("PATCHSERVE_WORKERS", "2")
    assert main.application().title == "patchserve"
    assert [settings.segmenter for settings in prepared] == ["none"]
    assert "only patchserve serve uses these settings: workers" in caplog.text


def test_a_thread_that_waits_for_the_interpreter_gets_it_soon(monkeypatch):
    before = sys.getswitchinterval()
    for name in ("limit_pillow_pixels", "silence_libtiff", "keep_freed_memory"):
        monkeypatch.setattr(main, name, lambda *arguments: None)
    try:
        main.prepare_process(Settings())
        assert sys.getswitchinterval() == pytest.approx(2e-4)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize(("cores", "warned"), [(0, False), (2, False), (3, True)])
def test_more_cores_than_the_process_may_use_are_a_warning(monkeypatch, caplog, cores, warned):
    monkeypatch.setattr(main, "core_count", lambda: 2)
    names = {"classify": "one", "segment": "other"}
    plan = main.serving_plan(Settings(cores=cores), names, lambda source, **given: None, 1.0)
    assert plan.cores == (cores or 2)
    assert ("--cores is 3, but the process may use 2" in caplog.text) == warned


def test_the_engines_of_a_replica_get_its_part_of_the_gpu():
    names, made = {"classify": "one", "segment": "other"}, []
    plan = main.serving_plan(Settings(), names, lambda source, **given: made.append(given), 0.25)
    for _, make_engine in plan.engines.values():
        make_engine()
    assert [given["gpu_share"] for given in made] == [0.25, 0.25]


async def test_two_apps_in_one_process_are_independent(serve):
    async with serve() as one, serve(segmenter="none") as other:
        assert len((await one.client.get("/models")).json()["models"]) == 2
        assert len((await other.client.get("/models")).json()["models"]) == 1
        assert "shapes-segformer" not in await other.series()


async def test_every_route_is_documented_with_its_errors_and_examples(serve):
    async with serve() as running:
        document = (await running.client.get("/openapi.json")).json()
        page = await running.client.get("/docs")
    assert page.status_code == 200
    assert set(document["paths"]) == {
        "/classify", "/segment", "/explain", "/models", "/models/{name}",
        "/health", "/livez", "/readyz", "/startupz", "/metrics",
        "/status", "/",
    }  # fmt: skip
    for path in ("/classify", "/segment", "/explain"):
        operation = document["paths"][path]["post"]
        assert {"multipart/form-data", "application/json", "application/octet-stream"} <= set(
            operation["requestBody"]["content"]
        )
        assert set(operation["responses"]) == {
            "200", "400", "404", "406", "408", "413", "415", "422", "431", "500", "503", "504",
        }  # fmt: skip
        problems = operation["responses"]["413"]["content"]["application/problem+json"]
        assert set(problems["examples"]) == {"payload_too_large", "image_too_large"}
    for operations in document["paths"].values():
        (operation,) = operations.values()
        assert {"400", "408", "431", "500"} <= set(operation["responses"])
    schemas = set(document["components"]["schemas"])
    assert {model.__name__ for model in COMPONENTS} <= schemas
    assert references(document) <= schemas


async def test_responses_have_the_documented_media_types_and_headers(serve):
    async with serve() as running:
        document = (await running.client.get("/openapi.json")).json()
        for path in ("/models", "/health", "/livez", "/readyz", "/startupz", "/metrics"):
            documented = document["paths"][path]["get"]["responses"]["200"]
            response = await running.client.get(path)
            assert list(documented["content"]) == [response.headers["content-type"].split(";")[0]]
            assert all(name in response.headers for name in documented["headers"])
    problems = document["paths"]["/classify"]["post"]["responses"]
    late = problems["504"]["content"]["application/problem+json"]["examples"]["deadline_exceeded"]
    assert "retry_after_ms" not in late["value"]


def references(node) -> set[str]:
    """Names of the schemas that a document refers to."""
    if isinstance(node, dict):
        own = {node["$ref"].rsplit("/", 1)[1]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()
