"""Point 6: the request as code that works, the raw answer, and how both are copied."""

import ast
import json
import os
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import KEY

NAME = """it's a "test" $HOME `id` %41 é.png"""


def code(page, tab):
    """The text of a tab under the request."""
    page.get_by_role("tab", name=tab).click()
    return page.locator("#code").text_content()


def run(text, language, folder):
    """The output of a program, in a folder."""
    program = {
        "curl": ["bash", "-c", text],
        "Python": [sys.executable, "-W", "ignore", "-c", text],
        "JavaScript": [
            "node",
            "--input-type=module",
            "--eval",
            text.replace("console.log(", "console.log(JSON.stringify(").replace(
                "json());", "json()));"
            ),
        ],
    }[language]
    environment = os.environ | {"API_KEY": KEY}
    done = subprocess.run(
        program, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def result(output, language):
    return ast.literal_eval(output) if language == "Python" else json.loads(output)


def without_last_digits(predictions):
    return [(one["label"], round(one["score"], 5)) for one in predictions]


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_code_for_a_sample_works(language, bundled, visit, choose_sample, scene, tmp_path):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    answer = result(run(code(page, language), language, tmp_path), language)
    expected = bundled.post("/classify", scene.read_bytes())["predictions"]
    assert without_last_digits(answer["predictions"]) == without_last_digits(expected)
    shown = page.locator("#labels .name").all_text_contents()
    assert [one["label"] for one in answer["predictions"]] == shown


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_code_for_a_file_of_any_name_works(language, bundled, visit, scene, tmp_path):
    (tmp_path / NAME).write_bytes(scene.read_bytes())
    page = visit.open(bundled.url)
    page.locator("#file").set_input_files(tmp_path / NAME)
    page.get_by_role("tab", name="Mask").click()
    page.wait_for_selector("#legend li")
    answer = result(run(code(page, language), language, tmp_path), language)
    shown = page.locator("#legend .name").all_text_contents()
    assert [one["label"] for one in answer["segments"]] == shown


def test_curl_finds_a_file_whose_name_is_a_dash(bundled, visit, scene, tmp_path):
    (tmp_path / "-").write_bytes(scene.read_bytes())
    page = visit.open(bundled.url)
    page.locator("#file").set_input_files(tmp_path / "-")
    page.wait_for_selector("#labels li")
    answer = json.loads(run(code(page, "curl"), "curl", tmp_path))
    assert answer["predictions"][0]["label"] == page.locator("#labels .name").first.text_content()


def test_a_dropped_file_of_a_strange_type_adds_no_command(bundled, visit, scene, tmp_path):
    (tmp_path / "cat.png").write_bytes(scene.read_bytes())
    page = visit.open(bundled.url)
    dropped = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["x"], "cat.png", { type: "image/png'; touch 'added" }));
            return transfer;
        }"""
    )
    visit.expected = ("status of 415",)
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    page.wait_for_selector("#problem:visible")
    assert json.loads(run(code(page, "curl"), "curl", tmp_path))["predictions"]
    assert not (tmp_path / "added").exists()


def test_the_code_has_the_parameters(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    field = page.get_by_label("Labels to show")
    field.fill("3")
    field.press("Enter")
    for language in ("curl", "Python", "JavaScript"):
        assert f"{bundled.url}/classify?top_k=3" in code(page, language)
    page.get_by_role("tab", name="Relevance").click()
    assert f"{bundled.url}/explain?method=gradient" in code(page, "curl")


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_code_names_the_key_but_does_not_show_it(
    language, keyed, visit, choose_sample, tmp_path
):
    page = visit.open(keyed.url)
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Enter")
    choose_sample(page)
    page.wait_for_selector("#labels li")
    text = code(page, language)
    assert KEY not in text
    assert "API_KEY" in text
    shown = page.locator("#labels .name").all_text_contents()
    answer = result(run(text, language, tmp_path), language)
    assert [one["label"] for one in answer["predictions"]] == shown


@pytest.mark.context(permissions=["clipboard-read", "clipboard-write"])
def test_the_answer_is_shown_in_short_and_copied_in_full(bundled, visit, choose_sample, scene):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.get_by_role("tab", name="Mask").click()
    page.wait_for_selector("#legend li")
    text = code(page, "Answer")
    assert '"label": "background"' in text
    assert "characters)" in text
    assert max(map(len, text.splitlines())) < 160
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == bundled.post("/segment", scene.read_bytes())


def test_copying_works_without_the_clipboard_of_secure_pages(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    choose_sample(page)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.context.grant_permissions(["clipboard-read"])
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").text_content()


def test_before_an_image_the_code_names_one(bundled, visit):
    page = visit.open(bundled.url)
    assert "photo.jpg" in code(page, "curl")
    assert code(page, "Answer") == "There is no answer yet."
