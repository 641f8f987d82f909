"""Point 4: relevance as a heat map, requested only when its tab is opened."""

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import overlay


@pytest.fixture
def page(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    assert visit.sent("/explain") == []
    page.get_by_role("tab", name="Relevance").click()
    page.wait_for_selector("#explained strong")
    return page


def test_it_is_requested_once_when_its_tab_is_opened(page, visit):
    page.get_by_role("tab", name="Labels").click()
    page.get_by_role("tab", name="Relevance").click()
    expect(page.locator("#explained")).to_be_visible()
    assert [one.url.partition("?")[2] for one in visit.sent("/explain")] == ["method=gradient"]


def test_it_names_what_is_explained(page, bundled, scene):
    answer = bundled.post("/explain", scene.read_bytes())
    best = answer["predictions"][0]
    expect(page.locator("#explained strong")).to_have_text(best["label"])
    highest = max(max(row) for row in answer["relevance"])
    expect(page.locator("#strongest")).to_contain_text(
        f"8 × 8 cells; the most relevant one has {100 * highest:.1f} %"
    )


def test_the_heat_is_that_of_the_grid(page, bundled, scene):
    """Brightness at the middle of each cell agrees with the cell's relevance."""
    grid = np.array(bundled.post("/explain", scene.read_bytes())["relevance"])
    gray = np.asarray(Image.fromarray(overlay(page)).convert("L"), float)
    side = gray.shape[0] // len(grid)
    middles = gray[side // 2 :: side, side // 2 :: side]
    assert np.corrcoef(grid.ravel(), middles.ravel())[0, 1] > 0.95
    assert np.unravel_index(middles.argmax(), grid.shape) == np.unravel_index(
        grid.argmax(), grid.shape
    )


def test_the_method_can_be_chosen(page, visit, bundled, scene):
    before = overlay(page)
    page.get_by_label("Method").select_option("rollout")
    expect(page.locator("#strongest")).not_to_contain_text("…")
    page.wait_for_function("() => document.querySelector('#code').textContent.includes('rollout')")
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
    assert [one.url.partition("?")[2] for one in visit.sent("/explain")][1] == "method=rollout"
    assert (overlay(page) != before).any()
    response = httpx.post(
        f"{bundled.url}/explain?method=rollout",
        content=scene.read_bytes(),
        headers={"accept": "application/json"},
    )
    highest = max(max(row) for row in response.json()["relevance"])
    expect(page.locator("#strongest")).to_contain_text(f"{100 * highest:.1f} %")


def test_the_opacity_is_that_of_the_slider(page):
    page.get_by_role("slider", name="Opacity").fill("40")
    assert page.locator("#overlay").evaluate("(c) => c.style.opacity") == "0.4"


def test_the_pointer_reads_a_cell(page, bundled, scene):
    answer = bundled.post("/explain", scene.read_bytes())
    box = page.locator("#frame").bounding_box()
    page.locator("#frame").hover(position={"x": box["width"] * 0.99, "y": box["height"] * 0.01})
    cell = 100 * answer["relevance"][0][-1]
    text = page.locator("#pointed").inner_text()
    assert text.endswith(" % of the relevance")
    assert float(text.split()[0]) == pytest.approx(cell, abs=0.05)
