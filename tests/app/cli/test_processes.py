"""Processes that answer batches of files: order, the window, errors, and their end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from app.cli.processes import (
    Answer,
    ProcessEndedError,
    Processes,
    SharedSemaphore,
    StopRequestedError,
)

TIMEOUT_S = 30
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def processes() -> Iterator[Callable[..., Processes[str]]]:
    """Start processes, and wait for their end after the test."""
    made: list[Processes[str]] = []

    def make(answer: Answer[str], number: int = 2, *, stop: bool = False) -> Processes[str]:
        made.append(Processes(number, 1, answer, partial(bool, stop)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        for process in each._processes:
            process.join(TIMEOUT_S)
            assert process.exitcode is not None


def batches(count: int) -> Iterator[Sequence[Path]]:
    return ([Path(str(number))] for number in range(count))


def names(files: Sequence[Path]) -> list[str]:
    return [file.name for file in files]


def test_answers_have_the_order_of_the_batches_whichever_ends_first(processes):
    last_ended = FORK.Event()

    def answer(batch: Sequence[Path]) -> list[str]:
        if batch[0].name == "0":
            assert last_ended.wait(TIMEOUT_S)
        if batch[0].name == "4":
            last_ended.set()
        return names(batch)

    # The first process has the batches 0 and 2; the second one answers 1, 3 and 4 meanwhile.
    assert list(processes(answer).answer(batches(5), 8)) == ["0", "1", "2", "3", "4"]


def test_only_a_window_of_batches_is_in_flight(processes):
    taken: list[int] = []

    def counted() -> Iterator[Sequence[Path]]:
        for batch in batches(100):
            taken.append(int(batch[0].name))
            yield batch

    answers = processes(names).answer(counted(), 3)
    assert next(answers) == "0"
    assert len(taken) <= 3
    assert list(answers)[-1] == "99"


def test_each_process_has_its_own_interpreter_and_torch_threads(processes):
    both = FORK.Barrier(2)

    def answer(batch: Sequence[Path]) -> list[str]:
        both.wait(TIMEOUT_S)  # so that each process answers one
        return [f"{os.getpid()} {torch.get_num_threads()}"]

    ran = [each.split() for each in processes(answer).answer(batches(2), 8)]
    assert len({os.getpid(), *(int(process) for process, _ in ran)}) == 3
    assert {threads for _, threads in ran} == {"1"}


def test_an_error_is_raised_in_its_place_with_its_traceback(processes):
    def answer(batch: Sequence[Path]) -> list[str]:
        if batch[0].name == "1":
            raise LookupError("broken")
        return names(batch)

    answers = processes(answer).answer(batches(3), 8)
    assert next(answers) == "0"
    with pytest.raises(LookupError, match="broken") as raised:
        next(answers)
    assert 'raise LookupError("broken")' in raised.value.__notes__[0]


def test_a_stop_ends_the_answers_while_a_batch_runs(processes):
    opened = FORK.Event()

    def answer(batch: Sequence[Path]) -> list[str]:
        assert opened.wait(TIMEOUT_S)
        return names(batch)

    with pytest.raises(StopRequestedError):
        list(processes(answer, stop=True).answer(batches(3), 8))


@pytest.mark.parametrize("holds", [False, True])
def test_a_killed_process_is_an_error_even_if_another_waits_for_it(processes, holds):
    semaphore = SharedSemaphore(1)

    def answer(batch: Sequence[Path]) -> list[str]:
        if holds:
            with semaphore.hold(1):
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    with pytest.raises(ProcessEndedError, match=r"killed by signal 9; .* PATCHSERVE_CORES"):
        list(processes(answer).answer(batches(20), 20))


def test_stop_signals_leave_the_end_to_the_command(processes):
    def answer(batch: Sequence[Path]) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return names(batch)

    assert list(processes(answer).answer(batches(3), 8)) == ["0", "1", "2"]


class TwoReasonsError(Exception):
    """Its class cannot be called with its `args`."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}, {second}")


class UnpicklableError(Exception):
    """An error that holds a lock."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, threading.Lock())


@pytest.mark.parametrize("error", [TwoReasonsError("bro", "ken"), UnpicklableError("broken")])
def test_an_error_that_cannot_be_sent_arrives_as_text(processes, error):
    def answer(batch: Sequence[Path]) -> list[str]:
        raise error

    with pytest.raises(RuntimeError, match=rf"(?s)Traceback.*{type(error).__name__}: "):
        list(processes(answer).answer(batches(1), 8))


def test_processes_end_with_the_command_even_if_it_is_killed_while_they_wait_for_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    ours, theirs = FORK.Pipe()

    def answer(batch: Sequence[Path]) -> list[str]:
        theirs.send("running")
        (tmp_path / "fifo").read_bytes()  # nobody writes
        return []

    def command() -> None:
        list(Processes(2, 1, answer, lambda: False).answer(batches(2), 8))

    killed = FORK.Process(target=command)
    killed.start()
    theirs.close()
    assert [ours.recv(), ours.recv()] == ["running", "running"]
    killed.kill()
    killed.join(TIMEOUT_S)
    # The processes have inherited `theirs`, so its end is that of the last one.
    assert ours.poll(TIMEOUT_S)
    with pytest.raises(EOFError):
        ours.recv()


def test_without_another_process_the_others_end_and_the_error_tells_what_to_do(
    processes, monkeypatch
):
    forked, fork = [], os.fork

    def refuse_the_second() -> int:
        if forked:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        forked.append(fork())
        return forked[0]

    monkeypatch.setattr(os, "fork", refuse_the_second)
    with pytest.raises(ProcessEndedError, match=r"unavailable; lower PATCHSERVE_CORES"):
        processes(names)
    with pytest.raises(ProcessLookupError):
        os.kill(forked[0], 0)


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
