"""The weighted semaphore, with threads that the test controls."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.imaging import pixel_budget
from app.imaging.pixel_budget import WeightedSemaphore

TIMEOUT_S = 60


class Holders:
    """Threads that each hold an amount until the test releases it."""

    def __init__(self, budget: WeightedSemaphore, pool: ThreadPoolExecutor) -> None:
        self.budget = budget
        self.holding: list[int] = []  # in the order of the grants
        self._changed = threading.Condition()
        self._pool = pool
        self._gates: dict[int, threading.Event] = {}
        self._done: dict[int, Future[None]] = {}

    def start(self, name: int, amount: int) -> None:
        """Start a thread; return when it holds its amount or waits for it."""
        before = self.budget.waiting
        self._gates[name] = threading.Event()
        self._done[name] = self._pool.submit(self._hold, name, amount)
        self.until(lambda: name in self.holding or self.budget.waiting > before)

    def release(self, name: int) -> None:
        """Let a thread release its amount, and return when it has ended."""
        self._gates[name].set()
        self._done[name].result(TIMEOUT_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds. It is polled: a thread that waits does not notify."""
        with self._changed:
            while not condition():
                self._changed.wait(0.001)

    def _hold(self, name: int, amount: int) -> None:
        with self.budget.hold(amount):
            with self._changed:
                self.holding.append(name)
                self._changed.notify_all()
            assert self._gates[name].wait(TIMEOUT_S)


@pytest.fixture
def holders():
    with ThreadPoolExecutor(64) as pool:
        yield Holders(WeightedSemaphore(10), pool)


def test_amounts_that_fit_are_held_together(holders):
    holders.start(0, 4)
    holders.start(1, 6)
    assert holders.holding == [0, 1]
    assert holders.budget.held == 10
    holders.release(0)
    assert holders.budget.held == 6
    holders.release(1)
    assert holders.budget.held == 0


def test_an_amount_that_does_not_fit_waits_until_it_does(holders):
    holders.start(0, 6)
    holders.start(1, 5)
    assert holders.holding == [0]
    holders.release(0)
    holders.until(lambda: holders.holding == [0, 1])
    holders.release(1)


def test_a_small_amount_does_not_overtake_a_large_one(holders):
    holders.start(0, 6)
    holders.start(1, 10)
    holders.start(2, 1)
    assert holders.holding == [0]
    holders.release(0)
    holders.until(lambda: holders.holding == [0, 1])
    assert holders.budget.waiting == 1
    holders.release(1)
    holders.until(lambda: holders.holding == [0, 1, 2])
    holders.release(2)


def test_a_release_grants_as_many_amounts_as_fit(holders):
    holders.start(0, 10)
    for name in (1, 2, 3):
        holders.start(name, 4)
    holders.release(0)
    holders.until(lambda: len(holders.holding) == 3)
    assert set(holders.holding) == {0, 1, 2}
    assert holders.budget.held == 8
    for name in (1, 2, 3):
        holders.release(name)


def test_an_amount_larger_than_the_size_is_held_alone(holders):
    holders.start(0, 1)
    holders.start(1, 1000)
    assert holders.holding == [0]
    holders.release(0)
    holders.until(lambda: holders.holding == [0, 1])
    holders.start(2, 1)
    assert holders.holding == [0, 1]
    holders.release(1)
    holders.until(lambda: holders.holding == [0, 1, 2])
    holders.release(2)
    assert holders.budget.held == 0


def test_a_thread_reports_while_it_waits(monkeypatch):
    monkeypatch.setattr(pixel_budget, "WAIT_S", 0.001)
    budget, reported = WeightedSemaphore(3), threading.Semaphore(0)

    def wait() -> int:
        with budget.hold(2, reported.release):
            return budget.held

    with ThreadPoolExecutor(1) as pool:
        with budget.hold(2):
            waiting = pool.submit(wait)
            assert all(reported.acquire(timeout=TIMEOUT_S) for _ in range(3))
            assert not waiting.done()
        assert waiting.result(TIMEOUT_S) == 2
    assert (budget.held, budget.waiting) == (0, 0)


def test_an_amount_that_fits_is_held_without_a_report():
    reports = []
    with WeightedSemaphore(3).hold(3, lambda: reports.append(1)):
        assert reports == []


def test_an_exception_releases_the_amount():
    budget = WeightedSemaphore(3)
    with pytest.raises(KeyError), budget.hold(3):
        raise KeyError
    assert budget.held == 0


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_starts_and_releases_is_served_in_turn(holders, seed):
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    amounts = [generator.randint(1, 14) for _ in range(40)]
    waiting, expected = list[int](), list[int]()  # what a plain queue would do
    names = iter(range(len(amounts)))

    def grant() -> None:
        while waiting and sum(min(amounts[i], 10) for i in [*expected, waiting[0]]) <= 10:
            expected.append(waiting.pop(0))

    name = next(names, None)
    while name is not None or expected:
        if name is not None and (not expected or generator.random() < 0.6):
            holders.start(name, amounts[name])
            waiting.append(name)
            name = next(names, None)
        else:
            released = expected.pop(generator.randrange(len(expected)))
            holders.release(released)
            holders.holding.remove(released)
        grant()
        holders.until(lambda: sorted(holders.holding) == sorted(expected))
        assert holders.budget.held == sum(min(amounts[i], 10) for i in expected) <= 10
        assert holders.budget.waiting == len(waiting)


def test_threads_never_hold_more_than_the_size_together():
    budget = WeightedSemaphore(10)
    held, most, lock = 0, 0, threading.Lock()

    def work(seed: int) -> None:
        nonlocal held, most
        generator = random.Random(seed)  # noqa: S311  # not for secrets
        for _ in range(300):
            amount = generator.randint(1, 7)
            with budget.hold(amount):
                with lock:
                    held += amount
                    most = max(most, held)
                with lock:
                    held -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert 0 < most <= 10
    assert (budget.held, budget.waiting) == (0, 0)
