"""Point 1: an image comes by drop, file dialog, paste or sample."""

import base64

import pytest
from PIL import Image
from playwright.sync_api import expect

TRANSFER = """([base64, name, type]) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
}"""


def transfer(page, file, name):
    data = base64.b64encode(file.read_bytes()).decode()
    return page.evaluate_handle(TRANSFER, [data, name, "image/png"])


def best_label(service, file):
    return service.post("/classify", file.read_bytes())["predictions"][0]["label"]


def first_name(page):
    return page.locator("#labels li .name").first


def test_one_click_on_a_sample_shows_its_labels(bundled, visit, choose_sample, scene):
    page = visit.open(bundled.url)
    choose_sample(page)
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text(f"{scene.name}, 128 × 128")


def test_every_thumbnail_is_drawn(bundled, visit):
    page = visit.open(bundled.url)
    widths = page.locator("#samples img").evaluate_all(
        "(images) => Promise.all(images.map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert widths == [128] * 6


def test_a_file_can_be_chosen(bundled, visit, scene):
    page = visit.open(bundled.url)
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a file", exact=True).click()
    chooser.value.set_files(scene)
    expect(first_name(page)).to_have_text(best_label(bundled, scene))


def test_a_file_can_be_dropped_anywhere(bundled, visit, scene):
    page = visit.open(bundled.url)
    dropped = transfer(page, scene, "dropped.png")
    page.dispatch_event("#models", "dragover", {"dataTransfer": dropped})
    expect(page.locator("body")).to_have_class("dragging")
    page.dispatch_event("body", "dragleave")
    expect(page.locator("body")).not_to_have_class("dragging")
    page.dispatch_event("#models", "drop", {"dataTransfer": dropped})
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text("dropped.png")
    expect(page.locator("body")).not_to_have_class("dragging")


def test_a_sample_that_does_not_arrive_is_not_sent(bundled, visit, choose_sample, scene):
    visit.expected = ("status of 404",)
    page = visit.open(bundled.url)
    page.wait_for_load_state("networkidle")  # the thumbnails are there
    page.route(f"**/{scene.name}", lambda route: route.fulfill(status=404))
    choose_sample(page)
    expect(page.locator("#caption")).to_have_text(f"The sample {scene.name} did not arrive.")
    assert visit.sent("/classify") == []


def test_an_image_can_be_pasted(bundled, visit, scene):
    page = visit.open(bundled.url)
    page.evaluate(
        "(data) => window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))",
        transfer(page, scene, "image.png"),
    )
    expect(first_name(page)).to_have_text(best_label(bundled, scene))
    expect(page.locator("#caption")).to_contain_text("pasted-image.png")
    expect(page.locator("#code")).to_contain_text("# save the pasted image as pasted-image.png")


def test_an_image_on_its_side_is_turned(bundled, visit, scene, tmp_path):
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
def test_an_image_that_the_browser_cannot_draw_is_answered(tab, bundled, visit, scene, tmp_path):
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


def test_what_is_no_image_is_refused_in_a_sentence(bundled, visit, tmp_path):
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


def test_a_newer_image_cancels_the_older_request(bundled, visit, scene, choose_sample):
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


def test_samples_of_ones_own(classifier_only, visit, scene):
    page = visit.open(classifier_only.url)
    expect(page.get_by_role("button", name="Sample scan.tiff")).to_have_text("scan.tiff")
    page.get_by_role("button", name="Sample my scene.png").click()
    expect(first_name(page)).to_have_text(best_label(classifier_only, scene))
