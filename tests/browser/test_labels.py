"""Point 2: labels as bars, best first, with percentages; `top_k`."""

import re

import pytest
from playwright.sync_api import expect


def rows(page):
    """The name, percentage, exact score and bar width (in percent) of each label."""
    page.wait_for_selector("#labels li")
    return page.locator("#labels li").evaluate_all(
        """(items) => items.map((item) => {
            const share = item.querySelector(".share");
            const width = Number.parseFloat(item.querySelector(".bar").style.width);
            return [item.querySelector(".name").textContent, share.textContent, share.title, width];
        })"""
    )


def test_the_labels_are_those_of_the_api(bundled, visit, choose_sample, scene):
    page = visit.open(bundled.url)
    choose_sample(page)
    shown = rows(page)
    predictions = bundled.post("/classify", scene.read_bytes())["predictions"]
    assert [name for name, *_ in shown] == [one["label"] for one in predictions]
    for (_, share, exact, width), prediction in zip(shown, predictions, strict=True):
        assert float(exact) == prediction["score"]
        assert width == pytest.approx(100 * prediction["score"], rel=1e-4)
        assert agrees(share, 100 * prediction["score"])


def agrees(text, percentage):
    """Whether a shown percentage is the rounded, or the bound of the, exact one."""
    sign, number = re.fullmatch(r"([<>] )?([\d.]+) %", text).groups()
    if sign:
        return (percentage < float(number)) == (sign == "< ")
    digits = len(number.partition(".")[2])
    return abs(percentage - float(number)) <= 0.5000001 * 10**-digits


def test_top_k_decides_how_many_labels_there_are(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    assert len(rows(page)) == 5
    field = page.get_by_label("Labels to show")
    field.fill("2")
    field.press("Enter")
    expect(page.locator("#labels li")).to_have_count(2)
    field.fill("99")  # the classifier has 6 labels
    field.press("Enter")
    expect(page.locator("#labels li")).to_have_count(6)
    assert field.input_value() == "6"
    sent = [one.url.partition("?")[2] for one in visit.sent("/classify")]
    assert sent == ["top_k=5", "top_k=2", "top_k=6"]


def test_top_k_can_be_chosen_before_the_number_of_labels_is_known(bundled, visit):
    page = visit.context.new_page()
    page.route("**/status", lambda route: route.abort())
    visit.expected = ("Failed to load resource",)
    page.goto(bundled.url)
    field = page.get_by_label("Labels to show")
    field.fill("3")
    field.press("Enter")
    expect(field).to_have_value("3")


def test_an_answer_is_announced(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    best, share, *_ = rows(page)[0]
    expect(page.locator("#announcement")).to_have_text(f"Best label: {best}, {share}.")
