"""/docs draws without internet, and "Execute" works with what it fills in."""

from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from playwright.sync_api import expect


@pytest.mark.parametrize("path", ["/classify", "/segment", "/explain"])
def test_execute_returns_200_with_the_defaults(path, bundled, visit, scene):
    page = visit.open(bundled.url + "/docs", wait=False)
    operation = page.locator(".opblock-post").filter(has=page.locator(f'[data-path="{path}"]'))
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    file = operation.locator('input[type="file"]')
    if file.count():
        file.set_input_files(scene)
    with page.expect_response(f"**{path}*") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    assert wrong_values(bundled, path, answered.value.url) == {}
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text(
        "200"
    )


def wrong_values(service, path, url):
    """The parameters of a request that are not the defaults of the OpenAPI document."""
    document = httpx.get(service.url + "/openapi.json").json()
    parameters = document["paths"][path]["post"]["parameters"]
    schemas = {one["name"]: one["schema"] for one in parameters if "schema" in one}
    sent = dict(parse_qsl(urlsplit(url).query))
    return {
        name: value
        for name, value in sent.items()
        if str(schemas[name].get("default", value)).lower() != value
    }
