"""The files of the page: self-contained, and without unused parts."""

import re

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import ROOT

FOLDER = ROOT / "app" / "api" / "playground"
HTML, CSS, JS = (
    (FOLDER / name).read_text() for name in ("index.html", "playground.css", "playground.js")
)
IDS = set(re.findall(r'\bid="([^"]+)"', HTML))


def test_the_page_names_no_other_host():
    assert set(re.findall(r"https?://[^/'\"`]+", HTML + CSS + JS)) == {"http://www.w3.org"}


def test_the_html_has_no_script_and_no_style_of_its_own():
    assert re.findall(r"<script[^>]*>[^<]|<style|\bstyle=|\bon\w+=", HTML) == []


def test_every_class_of_the_style_sheet_is_used():
    classes = set(re.findall(r"\.([a-z][\w-]*)", re.sub(r"/\*.*?\*/|\d*\.\d+", "", CSS)))
    words = set(re.findall(r"[\w-]+", HTML + JS))
    assert classes - words == set()


def test_every_id_is_used_and_every_used_id_exists():
    by_script = set(re.findall(r'byId\("([^"]+)"\)', JS))
    assert by_script - IDS == set()
    references = set(re.findall(r'(?:for|aria-\w+)="([^"]+)"', HTML))
    styled = set(re.findall(r"#([a-z][\w-]*)", CSS))
    composed = {name for name in IDS if re.match(r"(tab|panel)-|\w+-opacity$", name)}
    assert IDS - by_script - references - styled - composed == set()


def test_every_part_of_the_html_is_drawn_by_a_browser_that_runs_only_the_script(bundled, visit):
    response = httpx.get(bundled.url, headers={"Accept": "text/html"})
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    page = visit.open(bundled.url)
    expect(page.locator("#models article")).to_have_count(2)
