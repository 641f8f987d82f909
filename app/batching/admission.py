"""Admission control: queue places, predicted waits, and refusals with `Retry-After`."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import inf
from typing import Generic, TypeVar

from app.batching.costs import MovingAverage
from app.batching.entry import Entry
from app.batching.request_queue import RequestQueue
from app.core.errors import Overloaded

MIN_SAFETY, MAX_SAFETY = 1.1, 3.0  # factor of a predicted wait in the test of a deadline
OVERLOAD_S = 0.0013  # what an overload is assumed to add to each result, mostly for refusals
MAX_OVERLOAD = 0.4  # most that it adds to the factor
DEVIATIONS = 2.0  # of the real waits, which the factor allows for
ERROR_WEIGHT = 0.02  # of one image: the last hundred images have most of the influence
MIN_PREDICTED_S = 0.02  # a shorter wait says nothing about the prediction
MIN_RETRY_S = 0.05
REFUSALS_PER_RESULT = 6.0  # sent at once; at three times the capacity there are 2 to 3
MAX_PROMPT = 500.0  # refusals that are sent at once without a result
REFUSAL_DELAY_S = 0.25  # of each further refusal
MAX_JITTER = 1.5  # spreads Retry-After, so that refused clients do not return at the same time

Item = TypeVar("Item")
Result = TypeVar("Result")


class RefusalPace:
    """Delays refusals when there are many more of them than results.

    Clients may then retry without a pause. Their requests take the cores from the admitted images.
    A client that waits for its refusal sends no other request.
    """

    def __init__(self) -> None:
        self._prompt = MAX_PROMPT  # refusals that may be sent at once

    def on_result(self) -> None:
        """Count a result: some more refusals may be sent at once."""
        self._prompt = min(self._prompt + REFUSALS_PER_RESULT, MAX_PROMPT)

    def on_refusal(self) -> float:
        """Count a refusal, and return how long it must wait, in seconds."""
        if self._prompt < 1:
            return REFUSAL_DELAY_S
        self._prompt -= 1
        return 0.0


class AdmissionController(Generic[Item, Result]):
    """Admits images to a queue that serves clients and their flows equally, each flow by deadline.

    An image is admitted if, by the prediction, it meets its deadline and so do all images of its
    flow that were admitted before: the test of earliest-deadline-first scheduling (Liu and Layland,
    1973) on arrival. In the same time, each other flow of the client and each other client gets at
    most as much of the device.

    Args:
        queue: the queue that admitted images enter.
        max_queue_size: most entries in the queue, including images that are still being decoded.

    Attributes:
        seconds_per_item: predicted time between two results of the network under load.
        batch_s: predicted duration of the batch that runs an image.
        threads: number of threads that do the extra work of the images.
        slowness: real seconds of these threads for each expected second.
        beside: whether these threads work while the lane runs the network.
    """

    def __init__(self, queue: RequestQueue[Item, Result], max_queue_size: int) -> None:
        self.max_queue_size = max_queue_size
        self.seconds_per_item = self.batch_s = 0.0
        self.threads, self.slowness, self.beside = 1, 1.0, False
        self._queue = queue
        self._pace = RefusalPace()
        self._ratio = MovingAverage(1.0, ERROR_WEIGHT)  # real over predicted wait
        self._deviation = MovingAverage(0.0, ERROR_WEIGHT)  # from this average

    @property
    def full(self) -> bool:
        """Whether the queue has no free place."""
        return len(self._queue) >= self.max_queue_size

    @property
    def safety_factor(self) -> float:
        """Factor of a predicted wait, so that admitted images meet their deadlines.

        It is the average ratio of real to predicted waits, and twice their mean deviation, as in
        the timeout of TCP (Jacobson, 1988).
        """
        factor = self._ratio.value + DEVIATIONS * self._deviation.value
        return min(max(MIN_SAFETY, factor), MAX_SAFETY)

    def observe(self, entry: Entry[Item, Result]) -> None:
        """Count an entry that has ended, and compare its wait with the prediction."""
        if _succeeded(entry):
            self._pace.on_result()
        now = asyncio.get_running_loop().time()
        disconnected = entry.future.cancelled() and now < entry.deadline
        if entry.predicted_s >= MIN_PREDICTED_S and not disconnected:
            ratio = (now - entry.admitted) / entry.predicted_s
            self._ratio.add(ratio)
            self._deviation.add(abs(ratio - self._ratio.value))

    def predicted_wait(self) -> float:
        """Seconds until an image that is admitted now would be done, behind all others."""
        queue = self._queue
        backlogs = queue.backlogs.values()
        extra_s = queue.running_extra_s + sum(each.extra_s for each in backlogs)
        items = queue.running_items + sum(each.items for each in backlogs)
        return self._seconds(items, extra_s) + self.batch_s

    def _overloaded(self, reason: str, detail: str, wait: float) -> Overloaded:
        """The refusal of a request with this predicted wait.

        When all deadlines of the queue have passed it is empty, so no wait is longer.
        """
        now = asyncio.get_running_loop().time()
        last = (backlog.entries[-1].deadline for backlog in self._queue.backlogs.values())
        wait = min(wait, max(last, default=inf) - now)
        jitter = random.uniform(1.0, MAX_JITTER)  # noqa: S311  # it only spreads retries
        error = Overloaded(detail, retry_after_s=max(wait, MIN_RETRY_S) * jitter)
        error.reason, error.delay_s = reason, self._pace.on_refusal()
        return error

    def reserve(
        self,
        deadline: float,
        client: Hashable = None,
        extra_s: float = 0.0,
        items: float = 1.0,
    ) -> Entry[Item, Result]:
        """Add an entry to the queue.

        If the queue is full, an entry of the client with most places gives way to a client with
        fewer places.

        Args:
            deadline: on the clock of the event loop, in seconds.
            client: see `Entry`.
            extra_s: see `Entry`.
            items: see `Entry`.

        Raises:
            Overloaded: the queue is full, or a deadline would be missed.
        """
        entry: Entry[Item, Result] = Entry(self._queue, deadline, client, extra_s, items)
        displaced = self._queue.last_of_most(client) if self.full else None
        if self.full and displaced is None:
            raise self._overloaded("queue_full", "the queue is full", self.predicted_wait())
        self._predict(entry)
        if displaced is not None:
            self._displace(displaced)
        self._queue.push(entry)
        return entry

    def _predict(self, entry: Entry[Item, Result]) -> None:
        """Set the predicted wait of a new entry.

        Raises:
            Overloaded: a deadline would be missed.
        """
        queue, factor = self._queue, max(self.safety_factor, self._factor_of_overload(entry))
        after = queue.after(entry.flow, entry.deadline)
        entry.admitted = asyncio.get_running_loop().time()
        entry.predicted_s = wait = self._wait(entry, after)
        done = entry.admitted + factor * wait
        # an idle service refuses no image because of a measurement: the deadline itself decides
        idle = not (queue.running or len(queue) - len(after))
        if not idle and done > entry.deadline:
            raise self._overloaded("predicted_wait", "the predicted wait passes the deadline", wait)
        if after and self._delays(after, done, entry, factor):
            detail = "a request that was admitted earlier would miss its deadline"
            raise self._overloaded("predicted_wait", detail, self.predicted_wait())

    def _factor_of_overload(self, entry: Entry[Item, Result]) -> float:
        """Factor of a predicted wait, if an overload begins now.

        Its refusals make the device slower than it was for the last results, the more so the less
        work an image is.
        """
        item_s = self._seconds(entry.items, entry.extra_s)
        return MIN_SAFETY + (min(OVERLOAD_S / item_s, MAX_OVERLOAD) if item_s else 0.0)

    def _displace(self, entry: Entry[Item, Result]) -> None:
        entry.predicted_s = 0.0  # its wait says nothing about the prediction
        detail = "the queue is full, and this client has most of its places"
        entry.fail(self._overloaded("displaced", detail, self.predicted_wait()))
        self._queue.remove(entry)

    def _wait(self, entry: Entry[Item, Result], after: Sequence[Entry[Item, Result]]) -> float:
        """Seconds until a new entry is done; `after` are the entries of its flow that follow it."""
        queue = self._queue
        own_s = 0.0
        if entry.flow in queue.backlogs:
            own = queue.backlogs[entry.flow]
            extra_s = own.extra_s - sum(behind.extra_s for behind in after)
            own_s = self._seconds(own.items - sum(behind.items for behind in after), extra_s)
        turn_s = own_s + self._seconds(entry.items, entry.extra_s)
        seconds: defaultdict[Hashable, float] = defaultdict(float)  # by other client
        siblings_s = 0.0  # of other flows of the same client
        for flow, other in queue.backlogs.items():
            other_s = self._seconds(other.items, other.extra_s)
            if flow.client != entry.client:
                seconds[flow.client] += other_s
            elif flow != entry.flow:
                siblings_s += min(turn_s, other_s)
        others_s = sum(min(turn_s + siblings_s, each) for each in seconds.values())
        running_s = self._seconds(queue.running_items, queue.running_extra_s)
        before_s = running_s + own_s + siblings_s + others_s
        own_run_s = self.batch_s + (entry.items - 1) * self.seconds_per_item
        return before_s + own_run_s + self.slowness * entry.extra_s

    def _seconds(self, items: float, extra_s: float) -> float:
        """Seconds between the results before and after some images."""
        network_s, extra_s = items * self.seconds_per_item, extra_s * self.slowness / self.threads
        return max(network_s, extra_s) if self.beside else network_s + extra_s

    def _delays(
        self,
        entries: Sequence[Entry[Item, Result]],
        done: float,
        new: Entry[Item, Result],
        factor: float,
    ) -> bool:
        """Whether a new image before these entries makes one of them late.

        Only their own flow counts: with other flows, the new image may delay them by more.

        Args:
            entries: of one flow, by deadline.
            done: when the new image would be done.
            new: the new image.
            factor: the safety factor.
        """
        added = factor * self._seconds(new.items, new.extra_s)
        for entry in entries:
            if done <= entry.deadline < done + added:
                return True
            done += factor * self._seconds(entry.items, entry.extra_s)
        return False


def _succeeded(entry: Entry[Item, Result]) -> bool:
    future = entry.future
    return future.done() and not future.cancelled() and future.exception() is None
