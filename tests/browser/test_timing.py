"""Point 5: where the time went, from Server-Timing and the round trip."""

import re

import pytest
from playwright.sync_api import expect

NAMES = {
    "read": "read the body",
    "decode": "decode",
    "queue": "queue",
    "stage_in": "copy to the device",
    "compute": "compute",
    "postprocess": "reduce",
    "encode": "encode",
}


def test_the_bar_has_the_stages_of_the_response_and_the_rest_of_the_round_trip(
    bundled, visit, choose_sample
):
    page = visit.open(bundled.url)
    with page.expect_response("**/classify?*") as caught:
        choose_sample(page)
    header = caught.value.headers["server-timing"]
    stages = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", header)}
    expect(page.locator("#timing")).to_be_visible()
    table = dict(
        page.locator("#timing-rows tr").evaluate_all(
            "(rows) => rows.map((row) => [row.cells[0].textContent, row.cells[1].textContent])"
        )
    )
    assert list(table) == [*NAMES.values(), "network and browser"]
    for name, ms in stages.items():
        assert milliseconds(table[NAMES[name]]) == pytest.approx(ms, abs=0.006 + ms / 100)
    round_trip = milliseconds(page.locator("#round-trip").inner_text().removesuffix(" round trip"))
    assert sum(map(milliseconds, table.values())) == pytest.approx(round_trip, rel=0.02)
    shares = page.locator("#timing-bar div").evaluate_all(
        "(all) => all.map((e) => +e.style.flexGrow)"
    )
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares[4] == pytest.approx(stages["compute"] / round_trip, rel=0.05, abs=0.01)


def milliseconds(text):
    return float(text.removesuffix(" ms"))


def test_the_batch_size_and_the_request_are_named(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    with page.expect_response("**/classify?*") as caught:
        choose_sample(page)
    request_id = caught.value.headers["x-request-id"]
    expect(page.locator("#batch")).to_have_text(f"in a batch of 1 · request {request_id}")
