"""Point 7: models, readiness and live traffic; what the page says while it has to wait."""

import copy
import json

import httpx
import pytest
from playwright.sync_api import expect

PROBLEM = {
    "type": "urn:patchserve:problem:x",
    "title": "x",
    "instance": "urn:patchserve:request:1",
    "request_id": "0123456789abcdef",
}
MEMBERS_OF_LOADED = (
    "device", "dtype", "runtime", "parameters", "max_batch_size", "labels", "input_size",
)  # fmt: skip


@pytest.fixture
def status(bundled):
    """What the service says of itself when it is ready."""
    return httpx.get(bundled.url + "/status").json()


def fulfil(page, answers):
    """Let GET status give these answers, one after the other, and then the last for ever."""
    rest = iter(answers)
    state = {"last": answers[-1]}

    def answer(route):
        state["now"] = next(rest, state["last"])
        route.fulfill(json=state["now"])

    page.route("**/status", answer)


def refuse(page, status, code, times=1, **more):
    """Let the service refuse the first images."""
    detail = f"the reason of {code}"
    problem = PROBLEM | {"status": status, "code": code, "detail": detail, "retryable": True} | more
    body = json.dumps(problem)
    media_type = "application/problem+json"
    page.route(
        "**/classify?*",
        lambda route: route.fulfill(status=status, body=body, content_type=media_type),
        times=times,
    )


def loading(status):
    """The status while the models still load."""
    before = copy.deepcopy(status)
    before |= {"ready": False, "progress": 0.25, "reasons": ["shapes-vit is loading"]}
    for model, state in zip(before["models"], ("loading", "waiting"), strict=True):
        model |= {"status": state} | dict.fromkeys(MEMBERS_OF_LOADED)
    return before


def test_the_models_are_those_of_the_service(bundled, visit, status):
    page = visit.open(bundled.url)
    expect(page.locator("#readiness")).to_have_text("Ready")
    expect(page.locator("#version")).to_have_text(status["version"])
    expect(page.locator("#notice")).to_be_hidden()
    for model in status["models"]:
        card = page.locator("article").filter(has_text=model["name"])
        values = dict(
            card.locator("dl div").evaluate_all(
                "(all) => all.map((e) => [e.children[0].textContent, e.children[1].textContent])"
            )
        )
        assert values == {
            "Task": model["task"],
            "Status": "ready",
            "Device": model["device"],
            "Number format": model["dtype"],
            "Runtime": model["runtime"],
            "Parameters": f"{model['parameters']:,}",
            "Input": " × ".join(map(str, model["input_size"])),
            "Labels": str(model["labels"]),
            "Batch limit": str(model["max_batch_size"]),
        }


def test_a_warm_up_is_shown_with_its_progress_and_the_image_is_sent_after_it(
    bundled, visit, status, choose_sample
):
    page = visit.context.new_page()
    fulfil(page, [loading(status)])
    page.goto(bundled.url)
    expect(page.locator("#readiness")).to_have_text("Warming up")
    expect(page.get_by_role("progressbar", name="Warming up")).to_have_js_property("value", 0.25)
    items = page.locator("#notice-models li")
    expect(items).to_have_text(["shapes-vit: loading", "shapes-segformer: waiting"])
    choose_sample(page)
    expect(page.locator("#waiting")).to_contain_text("as soon as the model is ready")
    expect(page.locator("#problem")).to_be_hidden()
    assert visit.sent("/classify") == []
    page.unroute("**/status")
    page.wait_for_selector("#labels li")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#readiness")).to_have_text("Ready")


def test_a_model_that_is_ready_answers_while_the_other_loads(bundled, visit, status, choose_sample):
    half = loading(status)
    half["models"][0] = status["models"][0]
    page = visit.context.new_page()
    fulfil(page, [half])
    page.goto(bundled.url)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    expect(page.locator("#readiness")).to_have_text("Warming up")
    page.get_by_role("tab", name="Mask").click()
    expect(page.locator("#waiting")).to_contain_text("as soon as the model is ready")


def test_a_failed_model_is_not_called_a_warm_up(bundled, visit, status):
    failed = loading(status)
    failed["models"][0]["status"] = "failed"
    failed["reasons"] = ["shapes-vit is failed", "shapes-segformer is waiting"]
    page = visit.context.new_page()
    fulfil(page, [failed])
    page.goto(bundled.url)
    expect(page.locator("#readiness")).to_have_text("Not ready")
    text = "Shapes-vit is failed; shapes-segformer is waiting."
    expect(page.locator("#notice-text")).to_have_text(text)
    expect(page.locator("#progress")).to_be_hidden()


def test_the_page_becomes_ready_by_itself_and_survives_a_restart(launch, visit, choose_sample):
    visit.expected = ("Failed to load resource",)
    flags = {"ready": False, "PATCHSERVE_MAX_BATCH_SIZE": "16"}
    with launch(**flags) as service:
        page = visit.open(service.url, wait=False)
        expect(page.locator("#readiness")).to_have_text("Warming up")
        choose_sample(page)
        page.wait_for_selector("#labels li", timeout=100_000)
        assert len(visit.sent("/classify")) == 1
        expect(page.locator("#readiness")).to_have_text("Ready", timeout=100_000)
    expect(page.locator("#readiness")).to_have_text("No connection")
    expect(page.locator("#notice-title")).to_have_text("The connection to the service is lost")
    page.get_by_label("Labels to show").fill("2")
    page.get_by_label("Labels to show").press("Enter")
    expect(page.locator("#problem-code")).to_have_text("no_answer")
    with launch(*("--segmenter", "none"), port=int(service.url.rpartition(":")[2])):
        expect(page.locator("#readiness")).to_have_text("Ready", timeout=100_000)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#labels li")).to_have_count(2)
        expect(page.get_by_role("tab", name="Mask")).to_be_hidden()


def test_a_refusal_for_loading_is_not_shown_as_an_error(bundled, visit, choose_sample):
    visit.expected = ("status of 503",)
    page = visit.open(bundled.url)
    refuse(page, 503, "not_ready", times=2, retry_after_ms=1000)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    expect(page.locator("#problem")).to_be_hidden()
    began = [one.timing["startTime"] for one in visit.sent("/classify")]
    assert len(began) == 3
    assert began[2] - began[1] > 1500  # ms: no faster than the page asks for the status


def test_an_overloaded_service_is_asked_again_after_the_time_that_it_names(
    bundled, visit, choose_sample
):
    visit.expected = ("status of 503",)
    page = visit.open(bundled.url)
    refuse(page, 503, "overloaded", retry_after_ms=1200)
    choose_sample(page)
    expect(page.locator("#problem-text")).to_have_text("The reason of overloaded.")
    expect(page.locator("#problem-code")).to_have_text("overloaded")
    expect(page.locator("#problem-request")).to_have_text("request 0123456789abcdef")
    expect(page.locator("#retry")).to_have_text("Trying again in 2 s")
    page.wait_for_selector("#labels li")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_missed_deadline_is_tried_again_on_request(bundled, visit, choose_sample):
    visit.expected = ("status of 504",)
    page = visit.open(bundled.url)
    refuse(page, 504, "deadline_exceeded")
    choose_sample(page)
    expect(page.locator("#problem-code")).to_have_text("deadline_exceeded")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#labels li")


def test_an_answer_of_a_proxy_is_told_from_one_of_the_service(bundled, visit, choose_sample):
    visit.expected = ("status of 502",)
    page = visit.open(bundled.url)
    html = "<h1>Bad gateway</h1>"
    page.route("**/classify?*", lambda route: route.fulfill(status=502, body=html), times=1)
    choose_sample(page)
    expect(page.locator("#problem-code")).to_have_text("status_502")


def test_a_file_that_is_too_large_is_not_sent(bundled, visit, status, scene):
    small = copy.deepcopy(status)
    small["limits"]["max_body_bytes"] = 1000
    page = visit.context.new_page()
    fulfil(page, [small])
    page.goto(bundled.url)
    page.locator("#file").set_input_files(scene)
    expect(page.locator("#problem-text")).to_contain_text("the service accepts up to 1.0 kB")
    expect(page.locator("#problem-code")).to_have_text("payload_too_large")
    assert visit.sent("/classify") == []


def later(status, seconds, **gained):
    """The status some seconds after, with more traffic."""
    after = copy.deepcopy(status)
    after["time"] += seconds
    counts = gained.pop("counts", None)
    for name, gain in gained.items():
        after["traffic"][name] += gain
    if counts:
        latency = after["traffic"]["latency"]
        latency["counts"] = [a + b for a, b in zip(latency["counts"], counts, strict=True)]
    return after


def test_traffic_is_the_difference_of_two_polls(bundled, visit, status):
    status["traffic"]["latency"] = {"le": [0.01, 0.1, 1.0, None], "counts": [5, 5, 5, 5]}
    second = later(
        status, 2, requests=10, counts=[2, 8, 10, 10], batches=4, batched_images=10, queue_depth=3
    )
    page = visit.context.new_page()
    fulfil(page, [status, second])
    page.goto(bundled.url)
    values = page.locator("#traffic dd")
    # half of ten requests is three of the six in the second bucket; 9.9 is 1.9 of 2 in the third
    expected = ["5.0", "55.0 ms", "955 ms", "2.5", "3"]
    expect(values).to_have_text(expected)
    line = page.locator("#traffic polyline").first.get_attribute("points")
    assert line.split()[0] == "100.00,2.00"


def test_a_restarted_service_begins_a_new_history(bundled, visit, status):
    busy = later(status, 2, requests=10)
    page = visit.context.new_page()
    fulfil(page, [status, busy, later(status, -100)])
    page.goto(bundled.url)
    requests = page.locator("#traffic dd").first
    expect(requests).to_have_text("5.0")
    expect(requests).to_have_text("–")


def test_traffic_is_that_of_the_service(bundled, visit, choose_sample):
    page = visit.open(bundled.url)
    choose_sample(page)
    page.wait_for_selector("#labels li")
    expect(page.locator("#traffic dd").nth(1)).to_contain_text(" ms")
    expect(page.locator("#traffic dd").nth(3)).to_have_text("1.0")


def test_a_hidden_page_asks_no_more_until_it_is_seen(bundled, visit):
    page = visit.open(bundled.url)
    show = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(show, True)
    page.wait_for_timeout(200)  # for an answer on its way
    before = len(visit.sent("/status"))
    page.wait_for_timeout(2500)  # longer than the pause between two polls
    assert len(visit.sent("/status")) == before
    with page.expect_response("**/status"):
        page.evaluate(show, False)
