"""Admission: queue places, predicted waits, refusals with `Retry-After`."""

import asyncio
from contextlib import suppress

import pytest

from app.batching.admission import (
    MAX_PROMPT,
    REFUSAL_DELAY_S,
    REFUSALS_PER_RESULT,
    AdmissionController,
)
from app.batching.request_queue import RequestQueue
from app.core.errors import Overloaded

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue() -> RequestQueue[str, str]:
    return RequestQueue()


def deadline_in(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def run(queue: RequestQueue[str, str]) -> None:
    """Move every entry into a batch."""
    for backlog in queue.backlogs.values():
        for entry in backlog.entries:
            queue.set_ready(entry, "item", "key")
    queue.fill(lambda entry: True, "key", len(queue))


async def test_a_full_queue_refuses_with_retry_after(queue):
    admission = AdmissionController(queue, max_queue_size=2)
    with admission.reserve(deadline_in()), admission.reserve(deadline_in()):
        assert len(queue) == 2
        assert admission.full
        with pytest.raises(Overloaded, match="full") as refused:
            admission.reserve(deadline_in())
        assert refused.value.retry_after_s > 0
    assert len(queue) == 0
    with admission.reserve(deadline_in()):
        pass


async def test_an_image_whose_predicted_wait_passes_its_deadline_is_refused(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 5.0
    with admission.reserve(deadline_in(8.0)):
        assert admission.predicted_wait() == pytest.approx(10.0)
        with pytest.raises(Overloaded, match="deadline") as refused:
            admission.reserve(deadline_in(10.5))
        # when the deadline of the other image has passed, the queue is empty
        assert 7.9 <= refused.value.retry_after_s <= 12.0
        with admission.reserve(deadline_in(70.0)):
            pass


async def test_the_prediction_counts_only_images_with_a_nearer_deadline(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 10.0
    admission.reserve(deadline_in(20.0))
    admission.reserve(deadline_in(200.0))
    admission.reserve(deadline_in(30.0))  # behind one image
    with pytest.raises(Overloaded, match="predicted wait"):
        admission.reserve(deadline_in(31.0))  # behind two


async def test_an_idle_service_refuses_no_image_because_of_its_prediction(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 5.0
    admission.reserve(deadline_in(1.0))


async def test_a_nearer_deadline_goes_first_unless_it_makes_an_admitted_image_late(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 1.0
    later, sooner = admission.reserve(deadline_in(60.0)), admission.reserve(deadline_in(2.0))
    assert queue.after(sooner.flow, 0.0) == [sooner, later]
    with pytest.raises(Overloaded, match="a request that was admitted earlier"):
        admission.reserve(deadline_in(1.9))
    admission.reserve(deadline_in(30.0))  # between the two: `later` has time
    assert len(queue) == 3


async def test_an_image_that_is_late_anyway_refuses_no_other_image(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 0.1
    admission.reserve(deadline_in())
    run(queue)
    admission.reserve(deadline_in(7.5))
    admission.seconds_per_item = admission.batch_s = 5.0  # the device has slowed down
    with admission.reserve(deadline_in(60.0)):
        pass
    with pytest.raises(Overloaded):
        admission.reserve(deadline_in(7.0))


async def test_a_running_image_frees_its_place_but_counts_for_the_wait(queue):
    admission = AdmissionController(queue, max_queue_size=1)
    admission.seconds_per_item = admission.batch_s = 1.0
    with admission.reserve(deadline_in()):
        run(queue)
        assert (len(queue), queue.running) == (0, 1)
        assert admission.predicted_wait() == pytest.approx(2.0)
        with admission.reserve(deadline_in()):
            pass
    assert (len(queue), queue.running) == (0, 0)


async def test_expensive_images_delay_a_cheap_one_by_its_own_share_only(queue):
    admission = AdmissionController(queue, max_queue_size=99)
    admission.seconds_per_item, admission.threads = 0.1, 2
    for _ in range(12):
        admission.reserve(deadline_in(30.0), extra_s=4.0)
    assert admission.predicted_wait() == pytest.approx(25.2)  # on two threads
    admission.reserve(deadline_in(0.4))  # as much of the others as its own, 0.1 s each
    with pytest.raises(Overloaded, match="predicted wait"):
        admission.reserve(deadline_in(30.0), extra_s=4.0)


async def test_a_client_is_not_refused_because_of_another_clients_images(queue):
    admission = AdmissionController(queue, max_queue_size=99)
    admission.seconds_per_item = 1.0
    for _ in range(50):
        admission.reserve(deadline_in(60.0), "many")
    admission.reserve(deadline_in(3.0), "few")
    with pytest.raises(Overloaded, match="predicted wait") as refused:
        admission.reserve(deadline_in(3.0), "few")  # 1 s before it, and 2 s of the other client
    assert refused.value.retry_after_s >= 3.0
    assert refused.value.reason == "predicted_wait"


async def test_in_a_full_queue_the_client_with_most_places_gives_one_to_another(queue):
    admission = AdmissionController(queue, max_queue_size=4)
    entries = [admission.reserve(deadline_in(60.0 + number), "many") for number in range(4)]
    for entry in entries:
        queue.set_ready(entry, "item", "key")
    with pytest.raises(Overloaded, match="the queue is full"):
        admission.reserve(deadline_in(), "many")
    admission.reserve(deadline_in(), "few")
    admission.reserve(deadline_in(), "few")
    assert len(queue) == 4
    assert [entry.state for entry in entries] == ["waiting", "waiting", "done", "done"]
    for entry in entries[2:]:
        assert entry.future.exception().reason == "displaced"
    with pytest.raises(Overloaded, match="the queue is full"):
        admission.reserve(deadline_in(), "few")  # both have two


async def test_an_image_that_is_still_decoded_gives_its_place_to_another_client(queue):
    admission = AdmissionController(queue, max_queue_size=2)
    entries = [admission.reserve(deadline_in(60.0 + number), "many") for number in range(2)]
    admission.reserve(deadline_in(), "few")
    assert [entry.state for entry in entries] == ["decoding", "done"]
    assert entries[1].future.exception().reason == "displaced"


async def test_cost_classes_give_a_client_no_more_of_the_device(queue):
    admission = AdmissionController(queue, max_queue_size=64)
    admission.seconds_per_item = 0.1
    for number in range(6):
        admission.reserve(deadline_in(600.0), "many", extra_s=2.0**number)
    admission.reserve(deadline_in(4.0), "few", extra_s=1.0)
    with pytest.raises(Overloaded):  # 2 of its own, and as much of the other client
        admission.reserve(deadline_in(4.5), "few", extra_s=1.0)
    admission.reserve(deadline_in(6.0), "few", extra_s=1.0)


async def test_an_image_counts_as_many_items_of_the_run_as_it_costs(queue):
    admission = AdmissionController(queue, max_queue_size=64)
    admission.seconds_per_item, admission.batch_s, admission.beside = 0.1, 0.2, True
    entries = [admission.reserve(deadline_in(600.0), extra_s=0.05, items=20.0) for _ in range(2)]
    assert entries[0].predicted_s == pytest.approx(0.2 + 1.9 + 0.05)
    assert entries[1].predicted_s == pytest.approx(2.0 + 0.2 + 1.9 + 0.05)
    run(queue)
    assert admission.predicted_wait() == pytest.approx(4.0 + 0.2)
    for entry in entries:
        queue.remove(entry)
    assert admission.predicted_wait() == pytest.approx(0.2)


async def test_no_retry_is_later_than_the_last_deadline_of_the_queue(queue):
    admission = AdmissionController(queue, max_queue_size=64)
    for client in ("a", "b"):
        admission.reserve(deadline_in(30.0), client, extra_s=10.0)
    with pytest.raises(Overloaded) as refused:
        admission.reserve(deadline_in(50.0), "c", extra_s=60.0)
    assert 29.9 <= refused.value.retry_after_s <= 45.0


async def test_a_slow_image_is_not_refused_by_an_idle_service(queue):
    admission = AdmissionController(queue, max_queue_size=2)
    admission.reserve(deadline_in(1.0), extra_s=5.0)


@pytest.mark.parametrize(
    ("ratios", "factor"), [((1.5, 1.5), 1.5), ((1.0, 2.0), 2.5), ((9.0, 9.0), 3.0)]
)
async def test_waits_that_are_longer_than_predicted_raise_the_safety_factor(
    queue, monkeypatch, ratios, factor
):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 1.0
    assert admission.safety_factor == 1.1
    entry = admission.reserve(deadline_in(1.0))
    queue.set_ready(entry, "item", "key")
    entry.future.set_result("done")
    loop, clock = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    monkeypatch.setattr(loop, "time", lambda: clock)
    for _ in range(200):
        for ratio in ratios:
            clock = entry.admitted + ratio * entry.predicted_s
            admission.observe(entry)
    assert admission.safety_factor == pytest.approx(factor, abs=0.06)
    clock, wait = entry.admitted, admission.predicted_wait()
    with pytest.raises(Overloaded):
        admission.reserve(deadline_in((factor - 0.2) * wait))
    admission.reserve(deadline_in((factor + 0.2) * wait))


@pytest.mark.parametrize(("item_s", "factor"), [(0.001, 1.5), (0.005, 1.36), (0.1, 1.113)])
async def test_small_images_are_admitted_for_less_of_their_deadline(queue, item_s, factor):
    """An overload of them slows the device down."""
    admission = AdmissionController(queue, max_queue_size=99)
    admission.seconds_per_item = admission.batch_s = item_s
    for _ in range(39):
        admission.reserve(deadline_in())
    run(queue)
    wait = 40 * item_s
    with pytest.raises(Overloaded, match="predicted wait"):
        admission.reserve(deadline_in((factor - 0.05) * wait))
    admission.reserve(deadline_in((factor + 0.05) * wait))


async def test_the_wait_of_a_displaced_image_says_nothing(queue):
    admission = AdmissionController(queue, max_queue_size=2)
    admission.seconds_per_item = admission.batch_s = 1.0
    entries = [admission.reserve(deadline_in(60.0 + number), "many") for number in range(2)]
    for entry in entries:
        queue.set_ready(entry, "item", "key")
    admission.reserve(deadline_in(), "few")
    for _ in range(300):
        admission.observe(entries[1])
    assert entries[1].future.exception() is not None
    assert admission.safety_factor == 1.1


async def test_the_wait_of_a_client_that_disconnected_says_nothing(queue):
    admission = AdmissionController(queue, max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 1.0
    entry = admission.reserve(deadline_in(600.0))
    queue.set_ready(entry, "item", "key")
    entry.future.cancel()
    for _ in range(300):
        admission.observe(entry)
    assert admission.safety_factor == 1.1


def delays(admission, count):
    """The delays of so many refusals, in seconds."""
    errors = []
    for _ in range(count):
        with pytest.raises(Overloaded) as refused:
            admission.reserve(deadline_in())
        errors.append(refused.value.delay_s)
    return errors


async def test_refusals_wait_if_there_are_many_more_of_them_than_results(queue):
    admission = AdmissionController(queue, max_queue_size=1)
    at_first, per_result = int(MAX_PROMPT), int(REFUSALS_PER_RESULT)
    with admission.reserve(deadline_in()) as entry:
        assert delays(admission, at_first + 2) == [0.0] * at_first + [REFUSAL_DELAY_S] * 2
        entry.future.set_result("result")
        admission.observe(entry)
        assert delays(admission, per_result + 1) == [0.0] * per_result + [REFUSAL_DELAY_S]
        for _ in range(at_first):
            admission.observe(entry)
        assert delays(admission, at_first + 1).count(0.0) == at_first


async def test_an_error_or_a_disconnect_is_no_result_that_lets_refusals_be_sent_at_once(queue):
    admission = AdmissionController(queue, max_queue_size=1)
    with admission.reserve(deadline_in()) as failed:
        delays(admission, int(MAX_PROMPT))
        failed.fail(Overloaded("displaced"))
        admission.observe(failed)
        assert delays(admission, 1) == [REFUSAL_DELAY_S]
    with admission.reserve(deadline_in()) as gone:
        gone.future.cancel()
        admission.observe(gone)
        assert delays(admission, 1) == [REFUSAL_DELAY_S]
    with suppress(Overloaded):
        failed.future.result()  # retrieved
