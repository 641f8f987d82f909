"""Point 8: API keys, other ports, missing models, path prefixes and hostile labels."""

import json
import subprocess

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HOSTILE, KEY
from tests.browser.proxy import behind_prefix


@pytest.mark.parametrize(
    "path", ["/", "/playground/playground.js", "/playground/samples", "/status"]
)
def test_the_page_its_files_and_the_status_need_no_key(path, keyed):
    response = httpx.get(keyed.url + path, headers={"Accept": "text/html"})
    assert response.status_code == 200


def test_without_a_key_the_page_asks_for_one(keyed, visit, choose_sample):
    page = visit.open(keyed.url)
    choose_sample(page)
    expect(page.locator("#problem-text")).to_have_text("This service asks for an API key.")
    expect(page.get_by_label("API key")).to_be_focused()
    assert visit.sent("/classify") == []


def test_a_wrong_key_is_refused_and_the_right_one_is_used(keyed, visit, choose_sample):
    visit.expected = ("status of 401",)
    page = visit.open(keyed.url)
    field = page.get_by_label("API key")
    field.fill("wrong")
    field.press("Enter")
    choose_sample(page)
    expect(page.locator("#problem-code")).to_have_text("unauthorized")
    expect(page.locator("#problem-request")).to_contain_text("request ")
    expect(field).to_be_focused()
    field.fill(KEY)
    page.get_by_role("button", name="Use").click()
    page.wait_for_selector("#labels li")
    expect(page.locator("#problem")).to_be_hidden()
    used = [one.headers["authorization"] for one in visit.sent("/classify")]
    assert used == ["Bearer wrong", f"Bearer {KEY}"]
    assert all("authorization" not in one.headers for one in visit.sent("/status"))


def test_the_key_is_kept_for_the_tab_only(keyed, visit, choose_sample):
    page = visit.open(keyed.url)
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Enter")
    page.reload()
    choose_sample(page)
    page.wait_for_selector("#labels li")
    assert page.evaluate("localStorage.length") == 0
    other = visit.open(keyed.url)
    assert other.get_by_label("API key").input_value() == ""
    assert visit.context.cookies() == []


def test_a_service_without_keys_shows_no_field(bundled, visit):
    page = visit.open(bundled.url)
    expect(page.locator("#key-form")).to_be_hidden()


def test_the_page_works_where_probes_and_metrics_are_on_another_port(classifier_only, visit, scene):
    assert httpx.get(classifier_only.url + "/metrics").status_code == 404
    page = visit.open(classifier_only.url)
    expect(page.locator("#readiness")).to_have_text("Ready")
    page.locator("#file").set_input_files(scene)
    page.wait_for_selector("#labels li")
    expect(page.locator("#traffic dd").nth(1)).to_contain_text(" ms")


def test_without_a_segmenter_there_is_no_mask(classifier_only, visit):
    page = visit.open(classifier_only.url)
    tabs = page.get_by_role("tablist", name="Result").get_by_role("tab")
    expect(tabs).to_have_text(["Labels", "Relevance"])
    tabs.first.press("ArrowRight")
    expect(page.get_by_role("tab", name="Relevance")).to_be_focused()


def test_without_a_classifier_there_is_only_the_mask(bundled, visit, choose_sample):
    status = httpx.get(bundled.url + "/status").json()
    status["models"] = [one for one in status["models"] if one["task"] == "segment"]
    page = visit.context.new_page()
    page.route("**/status", lambda route: route.fulfill(json=status))
    page.goto(bundled.url)
    tabs = page.get_by_role("tablist", name="Result").get_by_role("tab")
    expect(tabs).to_have_text(["Mask"])
    choose_sample(page)
    page.wait_for_selector("#legend li")
    assert visit.sent("/classify") == []


@pytest.mark.parametrize("strip", [True, False])
def test_behind_a_prefix_of_the_settings_labels_are_text(strip, hostile, visit, choose_sample):
    with behind_prefix(hostile.url, "/vision", strip=strip) as url:
        page = visit.open(url + "/")
        page.on("dialog", lambda dialog: visit.console.append(f"dialog: {dialog.message}"))
        choose_sample(page)
        expect(page.locator("#labels .name").first).to_contain_text(HOSTILE)
        page.get_by_role("tab", name="Mask").click()
        expect(page.locator("#legend .name").first).to_contain_text(HOSTILE)
        page.locator("#legend button").first.hover()
        page.locator("#frame").hover()
        expect(page.locator("#pointed")).to_contain_text(HOSTILE)
        page.get_by_role("tab", name="Answer").click()
        expect(page.locator("#code")).to_contain_text("<img src=x")
        page.get_by_role("tab", name="Relevance").click()
        expect(page.locator("#explained strong")).to_contain_text(HOSTILE)
        assert page.locator("[onerror], img[src=x]").count() == 0


def test_behind_a_prefix_that_a_trusted_proxy_names(keyed, visit, choose_sample, tmp_path):
    headers = {"X-Forwarded-Prefix": "/team/vision"}
    with behind_prefix(keyed.url, "/team/vision", strip=True, headers=headers) as url:
        page = visit.open(url + "/")
        page.get_by_label("API key").fill(KEY)
        page.get_by_label("API key").press("Enter")
        choose_sample(page)
        page.wait_for_selector("#labels li")
        code = page.locator("#code").text_content()
        assert f"{url}/classify?top_k=5" in code
        command = ["bash", "-c", f"API_KEY={KEY}; {code}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        labels = [one["label"] for one in json.loads(done.stdout)["predictions"]]
        assert page.locator("#labels .name").all_text_contents() == labels
        page.get_by_role("link", name="API docs").click()
        page.wait_for_selector(".opblock")
        assert page.url == f"{url}/docs"
    paths = {one.url.removeprefix(url) for one in visit.requests if one.url.startswith(url)}
    assert len(paths) > 5
    outside = [one.url for one in visit.requests if not one.url.startswith((url, "data:", "blob:"))]
    assert outside == []
