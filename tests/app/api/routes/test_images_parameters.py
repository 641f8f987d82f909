"""Parameters in the query, in a form and in JSON: the same values, and the same errors."""

import base64

import pytest

pytestmark = pytest.mark.anyio

VALID = [
    ("/classify", {"top_k": "2"}),
    ("/classify", {"output": "embedding"}),
    ("/explain", {"top_k": "1", "method": "rollout"}),
    ("/segment", {"render": "color"}),
    ("/segment", {"render": "overlay"}),
    ("/segment", {"render": "overlay", "opacity": "0.25", "background": "none"}),
    ("/segment", {"render": "overlay", "background": "1"}),
    ("/classify", {"threshold": "0.6"}),
    ("/classify", {"threshold": "1"}),
    ("/segment", {"render": "confidence"}),
]
INVALID = [
    ("/classify", {"top_k": "0"}),
    ("/classify", {"top_k": "many"}),
    ("/classify", {"render": "color"}),
    ("/classify", {"topk": "1"}),
    ("/classify", {"output": "scores"}),
    ("/explain", {"method": "magic"}),
    ("/explain", {"output": "labels"}),
    ("/segment", {"render": "sepia"}),
    ("/segment", {"top_k": "1"}),
    ("/segment", {"render": "overlay", "opacity": "2"}),
    ("/segment", {"render": "overlay", "background": "dog"}),
    ("/segment", {"render": "color", "opacity": "1"}),
    ("/segment", {"background": "red"}),
    ("/segment", {"polygons": "true"}),
    ("/segment", {"tolerance": "1"}),
    ("/segment", {"threshold": "1"}),
    ("/classify", {"threshold": "2"}),
    ("/classify", {"threshold": "half"}),
    ("/classify", {"threshold": "1", "output": "embedding"}),
    ("/explain", {"threshold": "1"}),
]


def forms_of(image: bytes, parameters: dict[str, str]) -> dict[str, dict[str, object]]:
    """The same request with the parameters in the query, in a form, and in JSON."""
    encoded = base64.b64encode(image).decode()
    numbers = {k: int(v) if v.isdigit() else v for k, v in parameters.items()}
    return {
        "query": {"params": parameters, "content": image},
        "form": {"data": parameters, "files": {"file": image}},
        "json": {"json": {"image": encoded} | numbers},
        "json of floats": {
            "json": {"image": encoded}
            | {k: float(v) if v.isdigit() else v for k, v in parameters.items()}
        },
        "json of texts": {"json": parameters | {"image": encoded}},
    }


@pytest.mark.parametrize(("path", "parameters"), VALID)
async def test_parameters_are_honoured_wherever_they_are(serve, picture, path, parameters):
    async with serve() as running:
        plain = await running.client.post(path, content=picture())
        bodies = [
            (await running.client.post(path, **form)).content
            for form in forms_of(picture(), parameters).values()
        ]
    assert len(set(bodies)) == 1
    assert bodies[0] != plain.content


@pytest.mark.parametrize(("path", "parameters"), INVALID)
async def test_wrong_parameters_are_refused_wherever_they_are(serve, picture, path, parameters):
    async with serve() as running:
        responses = [
            await running.client.post(path, **form)
            for form in forms_of(picture(), parameters).values()
        ]
    assert {(each.status_code, each.json()["code"]) for each in responses} == {
        (422, "invalid_parameter")
    }
    assert len({each.json()["detail"] for each in responses}) == 1


@pytest.mark.parametrize("form", ["form", "json"])
async def test_a_parameter_in_the_query_and_in_the_body_is_refused(serve, picture, form):
    request = forms_of(picture(), {"top_k": "2"})[form]
    async with serve() as running:
        response = await running.client.post("/classify?top_k=2", **request)
    assert response.status_code == 422
    assert response.json()["detail"] == "top_k is given more than once"


@pytest.mark.parametrize("value", [2.5, 1e300, True, None, [2], {"a": 1}, "", " 2", "2 "])
async def test_a_json_value_that_is_no_integer_is_refused(serve, picture, value):
    encoded = base64.b64encode(picture()).decode()
    async with serve() as running:
        response = await running.client.post("/classify", json={"image": encoded, "top_k": value})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert "top_k must be an integer from 1 to 4" in response.json()["detail"]
