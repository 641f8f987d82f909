"""The document as /docs uses it: what "Try it out" fills in is a request that is answered."""

import base64

import pytest

from app.api import application
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

pytestmark = pytest.mark.anyio
IMAGE_PATHS = ("/classify", "/segment", "/explain")


@pytest.fixture(scope="module")
def paths():
    app = application.build_app(None, Metrics(), Shutdown(0, 0), page=application.Playground())
    return app.openapi()["paths"]


def operations(paths):
    return [operation for methods in paths.values() for operation in methods.values()]


def test_optional_parameters_are_filled_with_their_default_or_nothing(paths):
    """Swagger UI fills in the example of a parameter or of its schema, else the default."""
    for operation in operations(paths):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            default = schema.get("default")
            if not parameter.get("required"):
                assert parameter.get("example", default) == default, parameter["name"]
                assert schema.get("example", default) == default, parameter["name"]
                assert "examples" not in parameter
                assert "examples" not in schema


@pytest.mark.parametrize("path", IMAGE_PATHS)
def test_the_first_body_is_a_form_with_a_file(paths, path):
    """A parameter in it, or a default in JSON, would be sent there and in the query."""
    content = paths[path]["post"]["requestBody"]["content"]
    assert list(content)[:2] == ["multipart/form-data", "application/json"]
    schema = content["multipart/form-data"]["schema"]
    assert schema["required"] == ["file"]
    assert list(schema["properties"]) == ["file"]
    assert schema["properties"]["file"]["format"] == "binary"
    for member in content["application/json"]["schema"]["properties"].values():
        assert "default" not in member
        assert "example" not in member


@pytest.mark.parametrize("path", IMAGE_PATHS)
async def test_a_request_as_try_it_out_fills_it_in_is_answered(serve, paths, path):
    post = paths[path]["post"]
    query = {
        each["name"]: each["schema"]["default"]
        for each in post["parameters"]
        if each["in"] == "query" and "default" in each["schema"]
    }
    example = post["requestBody"]["content"]["application/json"]["schema"]["example"]
    accept = {"accept": next(iter(post["responses"]["200"]["content"]))}
    file = {"file": ("star.png", base64.b64decode(example["image"]))}
    async with serve() as running:
        plain = await running.client.post(path, json=example, headers=accept)
        responses = [
            await running.client.post(path, params=query, headers=accept, **body)
            for body in ({"json": example}, {"files": file})
        ]
    assert plain.status_code == 200
    for response in responses:
        assert (response.status_code, response.content) == (200, plain.content)


def test_each_operation_has_a_tag_a_summary_and_a_stable_id(paths):
    tags = {tag["name"] for tag in application.TAGS}
    ids = [operation["operationId"] for operation in operations(paths)]
    assert sorted(ids) == [
        "classify", "explain", "health", "livez", "metrics", "model", "models", "readyz",
        "root", "segment", "startupz", "status",
    ]  # fmt: skip
    for operation in operations(paths):
        assert len(operation["tags"]) == 1
        assert set(operation["tags"]) <= tags
        assert len(operation["summary"]) > 5
        assert len(operation["description"]) > 10


def test_the_document_explains_which_method_of_explain_is_better(paths):
    parameters = paths["/explain"]["post"]["parameters"]
    (method,) = (each for each in parameters if each["name"] == "method")
    assert method["schema"]["default"] == "gradient"
    assert "gradient is the better one" in method["description"]
