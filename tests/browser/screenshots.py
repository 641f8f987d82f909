"""Draws the page as pictures: `python tests/browser/screenshots.py [URL] [FOLDER]`.

A running service is at URL (http://127.0.0.1:8000). The pictures go to FOLDER (looks/), and the one
that the README shows to docs/playground.png.
"""

import argparse
import shutil
from pathlib import Path

from conftest import CHROMIUM_FLAGS, ROOT
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
README = {"x": 0, "y": 0, "width": 1280, "height": 760}  # down to the samples
PHONE = {"viewport": {"width": 375, "height": 812}, "device_scale_factor": 2, "is_mobile": True}
ANSWERS = {"labels": "#labels li", "mask": "#legend li", "relevance": "#explained strong"}


def open_page(browser: Browser, url: str, **options: object) -> Page:
    """The page with the first answer for a sample, and with some traffic."""
    page = browser.new_context(**options).new_page()
    page.goto(url)
    for position in (0, 1, 4, 2):
        page.locator("#samples button").nth(position).click()
        page.wait_for_selector("#labels li")
        page.wait_for_timeout(1000)  # spread over several polls
    page.wait_for_timeout(2500)
    return page


def show(page: Page, tab: str) -> None:
    """Open a tab and wait for its answer."""
    page.locator(f"#tab-{tab}").click()
    page.wait_for_selector(ANSWERS[tab])


def draw(browser: Browser, url: str, folder: Path) -> None:
    """Write a picture of each tab, of a phone, of dark mode, and of the page before an image."""
    page = browser.new_context(**DESKTOP).new_page()
    page.goto(url)
    page.wait_for_selector("#samples img")
    page.screenshot(path=folder / "empty.png", full_page=True)
    page = open_page(browser, url, **DESKTOP)
    for tab in ANSWERS:
        show(page, tab)
        page.screenshot(path=folder / f"{tab}.png", full_page=True)
    show(page, "mask")
    page.locator("#legend button").nth(1).hover()
    page.screenshot(path=folder / "highlight.png", clip=README)
    for name, options in (("phone", PHONE), ("dark", DESKTOP | {"color_scheme": "dark"})):
        page = open_page(browser, url, **options)
        show(page, "mask")
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("folder", nargs="?", default="looks", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        draw(browser, given.url, given.folder)
        browser.close()
    chosen = Image.open(given.folder / "highlight.png").convert("RGB")
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE  # a quarter of the size
    small = chosen.quantize(256, method=method, kmeans=10, dither=dither)
    small.save(ROOT / "docs/playground.png", optimize=True)


if __name__ == "__main__":
    main()
