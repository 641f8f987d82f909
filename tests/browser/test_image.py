"""Point 1: an image comes by drop, file dialog, paste or sample."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Service, Visit
from PIL import Image
from playwright.sync_api import Page, expect

TRANSFER = """([base64, name, type]) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
}"""


def transfer(page: Page, file: Path, name: str):
    data = base64.b64encode(file.read_bytes()).decode()
    return page.evaluate_handle(TRANSFER, [data, name, "image/png"])


def best_label(service: Service, file: Path) -> str:
    return service.post("/classify", file.read_bytes())["predictions"][0]["label"]


def first_name(page: Page):
    return page.locator("#labels li .name").first


def test_one_click_on_a_sample_shows_its_labels(
    bundled: Service, visit: Visit, choose_sample: Callable[[Page], None], scene: Path
) -> None:
    page = visit.open(bundled.url)
    choose_sample(page)
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text(f"{scene.name}, 128 × 128")


def test_every_thumbnail_is_drawn(bundled: Service, visit: Visit) -> None:
    page = visit.open(bundled.url)
    widths = page.locator("#samples img").evaluate_all(
        "(images) => Promise.all(images.map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert widths == [128] * 6


def test_a_file_can_be_chosen(bundled: Service, visit: Visit, scene: Path) -> None:
    page = visit.open(bundled.url)
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a file").click()
    chooser.value.set_files(scene)
    expect(first_name(page)).to_have_text(best_label(bundled, scene))


def test_a_file_can_be_dropped_anywhere(bundled: Service, visit: Visit, scene: Path) -> None:
    page = visit.open(bundled.url)
    dropped = transfer(page, scene, "dropped.png")
    page.dispatch_event("footer, #models", "dragover", {"dataTransfer": dropped})
    expect(page.locator("body")).to_have_class("dragging")
    page.dispatch_event("#models", "drop", {"dataTransfer": dropped})
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text("dropped.png")
    expect(page.locator("body")).not_to_have_class("dragging")


def test_an_image_can_be_pasted(bundled: Service, visit: Visit, scene: Path) -> None:
    page = visit.open(bundled.url)
    page.evaluate(
        "(data) => window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))",
        transfer(page, scene, "image.png"),
    )
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text("pasted-image.png")


def test_an_image_on_its_side_is_turned(
    bundled: Service, visit: Visit, scene: Path, tmp_path: Path
) -> None:
    file = tmp_path / "side.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.open(scene).resize((120, 60)).save(file, exif=exif)
    page = visit.open(bundled.url)
    page.locator("#file").set_input_files(file)
    expect(page.locator("#caption")).to_contain_text("side.jpg, 60 × 120")
    page.get_by_role("tab", name="Mask").click()
    expect(page.locator("#legend li").first).to_be_visible()
    photo, frame = (page.locator(each).bounding_box() for each in ("#overlay", "#frame"))
    assert photo == frame
    assert frame is not None
    assert frame["height"] == pytest.approx(2 * frame["width"], abs=1)


@pytest.mark.parametrize("tab", ["Mask", "Relevance"])
def test_an_image_that_the_browser_cannot_draw_is_answered(
    tab: str, bundled: Service, visit: Visit, scene: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scan.tiff"
    Image.open(scene).save(file)
    page = visit.open(bundled.url)
    page.locator("#file").set_input_files(file)
    expect(first_name(page)).to_have_text(best_label(bundled, file))
    expect(page.locator("#undrawable")).to_be_visible()
    page.get_by_role("tab", name=tab).click()
    expect(page.locator("#caption")).to_contain_text("scan.tiff, 128 × 128")
    opaque = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    assert page.locator("#overlay").evaluate(opaque)


def test_what_is_no_image_is_refused_in_a_sentence(
    bundled: Service, visit: Visit, tmp_path: Path
) -> None:
    visit.expected = ("status of 415",)
    file = tmp_path / "notes.txt"
    file.write_text("these are notes")
    page = visit.open(bundled.url)
    page.locator("#file").set_input_files(file)
    expect(page.locator("#problem-code")).to_have_text("unsupported_image_format")
    text = page.locator("#problem-text").inner_text()
    assert text[0].isupper()
    assert text.endswith(".")
    assert page.locator("#problem-request").inner_text().startswith("request ")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_a_newer_image_cancels_the_older_request(
    bundled: Service, visit: Visit, scene: Path, choose_sample: Callable[[Page], None]
) -> None:
    page = visit.open(bundled.url)
    held: list = []
    page.route("**/classify?*", lambda route: held.append(route) if not held else route.continue_())
    page.locator("#samples button").last.click()
    page.wait_for_timeout(100)  # until the request has been held
    choose_sample(page)
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    first, second = visit.sent("/classify")
    assert first.failure == "net::ERR_ABORTED"
    assert second.response() is not None


def test_samples_of_ones_own(
    launch: Callable[..., object], visit: Visit, scene: Path, tmp_path: Path
) -> None:
    Image.open(scene).save(tmp_path / "my scene.png")
    Image.open(scene).save(tmp_path / "scan.tiff")
    with launch("--samples", tmp_path, "--segmenter", "none") as service:  # type: ignore[attr-defined]
        page = visit.open(service.url)
        expect(page.get_by_role("button", name="Sample scan.tiff")).to_have_text("scan.tiff")
        page.get_by_role("button", name="Sample my scene.png").click()
        expect(first_name(page)).to_have_text(best_label(service, scene))
        code = page.locator("#code").inner_text()
        assert code.startswith("curl -o 'my scene.png' ")
