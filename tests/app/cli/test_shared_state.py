"""State that forked processes share: batches of files, and a semaphore."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.shared_state import FORK, Batch, Batches, SharedSemaphore

TIMEOUT_S = 30


def paths(count: int) -> list[Path]:
    return [Path(str(number)) for number in range(count)]


def taken(batches: Batches) -> Iterator[Batch]:
    while batch := batches.take():
        yield batch


@pytest.mark.parametrize(
    ("files", "sizes"),
    [(1, [1]), (3, [2, 1]), (10, [5, 5]), (24, [8, 8, 4, 4]), (33, [8, 8, 8, 8, 1])],
)
def test_the_batches_of_the_last_round_are_equal_so_that_all_workers_end_together(files, sizes):
    batches = Batches(paths(files), 2)
    batches.size = 8
    found = list(taken(batches))
    assert [len(batch.files) for batch in found] == sizes
    assert [file for batch in found for file in batch.files] == paths(files)
    assert [batch.files[0] for batch in found] == [Path(str(batch.start)) for batch in found]


def test_a_smaller_size_counts_from_the_next_round():
    batches = Batches(paths(100), 2)
    batches.size = 8
    first = batches.take()
    batches.size = 2
    assert first is not None
    assert [len(batch.files) for batch in taken(batches)][:3] == [8, 2, 2]


def test_processes_take_each_file_once():
    batches = Batches(paths(2000), 2)
    ours, theirs = FORK.Pipe()

    def take_all() -> None:
        theirs.send([batch.start for batch in taken(batches)])

    others = [FORK.Process(target=take_all) for _ in range(2)]
    for other in others:
        other.start()
    starts = ours.recv() + ours.recv()
    assert sorted(starts) == list(range(2000))
    for other in others:
        other.join(TIMEOUT_S)


def test_a_semaphore_bounds_the_sum_of_all_processes():
    semaphore = SharedSemaphore(10)
    entered, leave = FORK.Event(), FORK.Event()

    def hold() -> None:
        with semaphore.hold(8):
            entered.set()
            leave.wait(TIMEOUT_S)

    other = FORK.Process(target=hold)
    other.start()
    assert entered.wait(TIMEOUT_S)
    held = threading.Event()

    def hold_more() -> None:
        with semaphore.hold(99):  # counts as 10
            held.set()

    thread = threading.Thread(target=hold_more)
    thread.start()
    assert not held.wait(0.05)
    leave.set()
    assert held.wait(TIMEOUT_S)
    other.join(TIMEOUT_S)
    thread.join(TIMEOUT_S)


def test_a_small_amount_enters_beside_another_one():
    semaphore = SharedSemaphore(10)
    with semaphore.hold(4):
        thread = threading.Thread(target=lambda: semaphore.hold(6).__enter__())
        thread.start()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
