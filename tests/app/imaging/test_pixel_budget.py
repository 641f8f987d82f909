import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.imaging.pixel_budget import WeightedSemaphore

TIMEOUT_S = 60


class Hall:
    """Threads that hold an amount each until the test lets them go."""

    def __init__(self, budget: WeightedSemaphore, pool: ThreadPoolExecutor) -> None:
        self.budget = budget
        self.inside: list[int] = []  # in the order of entering
        self._changed = threading.Condition()
        self._pool = pool
        self._gates: dict[int, threading.Event] = {}
        self._done: dict[int, Future[None]] = {}

    def enter(self, name: int, amount: int) -> None:
        """Send a thread in; return when it is inside or waits."""
        before = self.budget.waiting
        self._gates[name] = threading.Event()
        self._done[name] = self._pool.submit(self._stay, name, amount)
        self.until(lambda: name in self.inside or self.budget.waiting > before)

    def leave(self, name: int) -> None:
        """Let a thread go, and return when it has gone."""
        self._gates[name].set()
        self._done[name].result(TIMEOUT_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a change that other threads make; waiting in line notifies nobody."""
        with self._changed:
            while not condition():
                self._changed.wait(0.001)

    def _stay(self, name: int, amount: int) -> None:
        with self.budget.hold(amount):
            with self._changed:
                self.inside.append(name)
                self._changed.notify_all()
            assert self._gates[name].wait(TIMEOUT_S)


@pytest.fixture
def hall():
    with ThreadPoolExecutor(64) as pool:
        yield Hall(WeightedSemaphore(10), pool)


def test_what_fits_is_held_side_by_side(hall):
    hall.enter(0, 4)
    hall.enter(1, 6)
    assert hall.inside == [0, 1]
    assert hall.budget.held == 10
    hall.leave(0)
    assert hall.budget.held == 6
    hall.leave(1)
    assert hall.budget.held == 0


def test_what_does_not_fit_waits_until_it_does(hall):
    hall.enter(0, 6)
    hall.enter(1, 5)
    assert hall.inside == [0]
    hall.leave(0)
    hall.until(lambda: hall.inside == [0, 1])
    hall.leave(1)


def test_a_small_amount_does_not_overtake_a_large_one(hall):
    hall.enter(0, 6)
    hall.enter(1, 10)
    hall.enter(2, 1)
    assert hall.inside == [0]
    hall.leave(0)
    hall.until(lambda: hall.inside == [0, 1])
    assert hall.budget.waiting == 1
    hall.leave(1)
    hall.until(lambda: hall.inside == [0, 1, 2])
    hall.leave(2)


def test_one_that_leaves_lets_in_as_many_as_fit(hall):
    hall.enter(0, 10)
    for name in (1, 2, 3):
        hall.enter(name, 4)
    hall.leave(0)
    hall.until(lambda: len(hall.inside) == 3)
    assert set(hall.inside) == {0, 1, 2}
    assert hall.budget.held == 8
    for name in (1, 2, 3):
        hall.leave(name)


def test_more_than_the_whole_budget_is_held_alone(hall):
    hall.enter(0, 1)
    hall.enter(1, 1000)
    assert hall.inside == [0]
    hall.leave(0)
    hall.until(lambda: hall.inside == [0, 1])
    hall.enter(2, 1)
    assert hall.inside == [0, 1]
    hall.leave(1)
    hall.until(lambda: hall.inside == [0, 1, 2])
    hall.leave(2)
    assert hall.budget.held == 0


def test_a_failure_gives_back_what_it_held():
    budget = WeightedSemaphore(3)
    with pytest.raises(KeyError), budget.hold(3):
        raise KeyError
    assert budget.held == 0


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_coming_and_going_is_served_in_turn_and_loses_nothing(hall, seed):
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    amounts = [chance.randint(1, 14) for _ in range(40)]
    waiting, inside = list[int](), list[int]()  # what a queue would do
    coming = iter(range(len(amounts)))

    def serve() -> None:
        while waiting and sum(min(amounts[i], 10) for i in [*inside, waiting[0]]) <= 10:
            inside.append(waiting.pop(0))

    name = next(coming, None)
    while name is not None or inside:
        if name is not None and (not inside or chance.random() < 0.6):
            hall.enter(name, amounts[name])
            waiting.append(name)
            name = next(coming, None)
        else:
            leaving = inside.pop(chance.randrange(len(inside)))
            hall.leave(leaving)
            hall.inside.remove(leaving)
        serve()
        hall.until(lambda: sorted(hall.inside) == sorted(inside))
        assert hall.budget.held == sum(min(amounts[i], 10) for i in inside) <= 10
        assert hall.budget.waiting == len(waiting)


def test_threads_that_run_freely_never_hold_too_much():
    budget = WeightedSemaphore(10)
    held, most, lock = 0, 0, threading.Lock()

    def work(seed: int) -> None:
        nonlocal held, most
        chance = random.Random(seed)  # noqa: S311  # not for secrets
        for _ in range(300):
            amount = chance.randint(1, 7)
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
