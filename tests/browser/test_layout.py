"""Point 8: keyboard, screen reader roles, dark mode, phone width."""

import pytest
from playwright.sync_api import expect

# the contrast of each visible text with what lies behind it (WCAG 2.2, 1.4.3), if below 4.5
LOW_CONTRAST = """() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => {
        const linear = [red, green, blue].map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = (element) => {
        const color = channels(getComputedStyle(element).backgroundColor);
        return color[3] === 0 && element.parentElement ? behind(element.parentElement) : color;
    };
    const hasText = (element) =>
        [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return [...document.body.querySelectorAll("*")]
        .filter((element) => hasText(element) && element.checkVisibility())
        .map((element) => {
            const tones = [channels(getComputedStyle(element).color), behind(element)];
            const [low, high] = tones.map(luminance).sort((one, other) => one - other);
            return [element.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
        })
        .filter(([, contrast]) => contrast < 4.5);
}"""
# form fields, buttons and links that a screen reader could not name
NAMELESS = """() => [...document.querySelectorAll("input, select, button, a")]
    .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
    .map((one) => one.outerHTML)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
ANSWERS = {"Labels": "#labels li", "Mask": "#legend li", "Relevance": "#explained strong"}


@pytest.mark.parametrize("tab", ANSWERS)
@pytest.mark.parametrize(
    "scheme",
    [
        pytest.param("light", marks=pytest.mark.context(color_scheme="light")),
        pytest.param("dark", marks=pytest.mark.context(color_scheme="dark")),
    ],
)
def test_text_is_readable_in_light_and_dark(scheme, tab, bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.get_by_role("tab", name=tab).click()
    page.wait_for_selector(ANSWERS[tab])
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, background.strip("rgb()").split(",")))
    assert (brightness < 384) == (scheme == "dark")
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate(NAMELESS) == []


@pytest.mark.context(viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True)
def test_a_phone_needs_no_sideways_scrolling(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    assert page.evaluate(OVERFLOW) == 0
    choose_sample(page)
    for tab, answer in ANSWERS.items():
        page.get_by_role("tab", name=tab).tap()
        page.wait_for_selector(answer)
        assert page.evaluate(OVERFLOW) == 0
    page.get_by_role("tab", name="Mask").tap()
    page.locator("#frame").tap(position={"x": 3, "y": 3})
    expect(page.locator("#pointed")).to_contain_text("background")


def test_everything_can_be_done_by_keyboard(bundled, visit):
    page = visit.open(bundled.url)
    sample = page.locator("#samples button").nth(1)
    for _ in range(8):
        page.keyboard.press("Tab")
        if sample.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#labels li")
    expect(sample).to_have_attribute("aria-pressed", "true")
    page.get_by_role("tab", name="Labels").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Mask")).to_be_focused()
    page.wait_for_selector("#legend li")
    page.keyboard.press("End")
    page.wait_for_selector("#explained strong")
    page.keyboard.press("ArrowRight")  # from the last to the first
    expect(page.get_by_role("tab", name="Labels")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel", name="Labels")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tabpanel", name="Labels")).to_be_focused()


def test_a_screen_reader_finds_its_way(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    assert page.locator("html").get_attribute("lang") == "en"
    for role in ("banner", "main"):
        expect(page.get_by_role(role)).to_have_count(1)
    for name in ("Image", "Result", "This request", "This service", "Where the time went"):
        expect(page.get_by_role("region", name=name)).to_be_visible()
    controls = page.get_by_role("tab").evaluate_all(
        "(tabs) => tabs.every((tab) => document.getElementById(tab.getAttribute('aria-controls')))"
    )
    assert controls
    expect(page.get_by_role("tab", selected=True)).to_have_count(2)
    expect(page.get_by_role("row")).to_have_count(9)


@pytest.mark.context(reduced_motion="reduce")
def test_nothing_moves_for_those_who_want_no_motion(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    bar = page.locator("#labels .bar").first
    assert bar.evaluate("(one) => getComputedStyle(one).transitionProperty") == "none"
