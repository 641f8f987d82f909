"""Point 3: the mask over the photograph, its legend, its highlights and its file."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import overlay


@pytest.fixture
def answer(bundled, scene):
    return bundled.post("/segment", scene.read_bytes())


@pytest.fixture
def page(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.get_by_role("tab", name="Mask").click()
    page.wait_for_selector("#legend li")
    return page


def classes(answer):
    """The class of each pixel of the answer's mask, (H, W)."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(answer["mask"]))))


def rgb(color):
    return list(bytes.fromhex(color.removeprefix("#")))


def test_the_legend_is_that_of_the_api(page, answer):
    shown = page.locator("#legend button").evaluate_all(
        """(buttons) => buttons.map((button) => [
            button.querySelector(".name").textContent,
            getComputedStyle(button.querySelector(".swatch")).backgroundColor,
            button.querySelector(".share").textContent,
            Number(button.querySelector(".share").title),
            Number(button.querySelector(".confidence").title),
        ])"""
    )
    expected = [
        [
            one["label"],
            "rgb({}, {}, {})".format(*rgb(one["color"])),
            f"{100 * one['fraction']:.1f} %",
            one["fraction"],
            pytest.approx(one["confidence"], abs=1e-6),
        ]
        for one in answer["segments"]
    ]
    assert shown == expected
    confidence = f"confidence {100 * answer['segments'][1]['confidence']:.1f} %"
    expect(page.locator("#legend .confidence").nth(1)).to_have_text(confidence)


def test_every_pixel_has_the_color_of_its_class(page, answer):
    pixels, labels = overlay(page), classes(answer)
    scale = pixels.shape[0] // labels.shape[0]
    for segment in answer["segments"]:
        painted = pixels[::scale, ::scale][labels == segment["index"]]
        expected = [*rgb(segment["color"]), 255] if segment["index"] else [0, 0, 0, 0]
        assert (painted == expected).all()


def test_the_opacity_is_that_of_the_slider(page):
    page.get_by_role("slider", name="Opacity").fill("25")
    assert page.locator("#overlay").evaluate("(c) => c.style.opacity") == "0.25"


@pytest.mark.parametrize("way", ["pointer", "keyboard"])
def test_a_legend_entry_highlights_its_region(way, page, answer):
    segment = answer["segments"][1]
    entry = page.get_by_role("button", name=segment["label"])
    if way == "pointer":
        entry.hover()
    else:
        page.get_by_role("slider", name="Opacity").focus()
        for _ in range(4):  # the download, the panel's first entry, and the next
            if entry.evaluate("(button) => button === document.activeElement"):
                break
            page.keyboard.press("Tab")
    expect(entry).to_have_class("lit")
    pixels, labels = overlay(page), classes(answer)
    scale = pixels.shape[0] // labels.shape[0]
    alpha = pixels[::scale, ::scale, 3]
    assert (alpha[labels == segment["index"]] == 255).all()
    others = (labels != segment["index"]) & (labels != 0)
    assert (alpha[others] == 60).all()


def test_a_region_highlights_its_legend_entry(page, answer):
    labels = classes(answer)
    frame = page.locator("#frame")
    box = frame.bounding_box()
    for segment in answer["segments"]:
        row, column = np.argwhere(labels == segment["index"])[len(labels)]
        at = {
            "x": (column + 0.5) * box["width"] / labels.shape[1],
            "y": (row + 0.5) * box["height"] / labels.shape[0],
        }
        frame.hover(position=at)
        expect(page.locator("#legend .lit .name")).to_have_text(segment["label"])
        expect(page.locator("#pointed")).to_contain_text(segment["label"])
    page.get_by_role("heading", name="patchserve").hover()
    expect(page.locator("#legend .lit")).to_have_count(0)


def test_the_mask_is_downloaded_as_it_came(page, answer, scene, tmp_path):
    with page.expect_download() as download:
        page.get_by_text("Download the mask").click()
    assert download.value.suggested_filename == f"{scene.stem}.mask.png"
    download.value.save_as(tmp_path / "mask.png")
    assert (tmp_path / "mask.png").read_bytes() == base64.b64decode(answer["mask"])


def test_the_regions_are_announced(page, answer):
    first = answer["segments"][0]
    text = f"Mask: {first['label']} {100 * first['fraction']:.1f} %"
    expect(page.locator("#announcement")).to_contain_text(text)
