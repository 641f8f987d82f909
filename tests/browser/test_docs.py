"""/docs draws without internet, and "Execute" works with what it fills in."""

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
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text(
        "200"
    )
