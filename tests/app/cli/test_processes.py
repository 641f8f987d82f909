"""Processes that answer batches of files: order, messages, errors, and their end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from app.cli import processes as module
from app.cli.processes import (
    AHEAD,
    Answer,
    ProcessEndedError,
    Processes,
    StopRequestedError,
    answered,
)
from app.cli.shared_state import FORK, Batches, SharedSemaphore

TIMEOUT_S = 30


@pytest.fixture
def processes() -> Iterator[Callable[..., Processes[str]]]:
    """Start two processes on files named 0, 1, ...; wait for their end after the test."""
    made: list[Processes[str]] = []

    def make(answer: Answer[str], files: int = 3, *, stop: bool = False) -> Processes[str]:
        made.append(Processes(2, 1, batches(files), answer, partial(bool, stop)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        for process in each._processes:
            process.join(TIMEOUT_S)
            assert process.exitcode is not None


def batches(count: int) -> Batches:
    """Batches of one file for two processes."""
    return Batches([Path(str(number)) for number in range(count)], 2)


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

    # One process waits with the first batch until the other one has answered those behind it.
    assert list(processes(answer, 5).answers()) == ["0", "1", "2", "3", "4"]


def test_no_batch_is_taken_that_is_far_ahead_of_those_that_the_command_has_reported(monkeypatch):
    waiting = 0

    def wait(seconds: float) -> None:
        nonlocal waiting
        waiting += 1

    monkeypatch.setattr(module.time, "sleep", wait)
    of = batches(5)
    sent = answered(of, names, lambda: 5 if waiting > 2 else 0, 1)
    assert [next(sent), next(sent)] == [(0, ["0"]), (1, ["1"])]
    assert (of.taken, waiting) == (2, 0)
    assert len(list(sent)) == 3
    assert waiting == 3


def test_the_command_reports_while_more_files_are_left_than_may_be_ahead(processes):
    files = 2 * AHEAD * 2 + 5
    assert list(processes(names, files).answers()) == [str(number) for number in range(files)]


def test_each_process_has_its_own_interpreter_and_torch_threads(processes):
    both = FORK.Barrier(2)

    def answer(batch: Sequence[Path]) -> list[str]:
        both.wait(TIMEOUT_S)  # so that each process answers one
        return [f"{os.getpid()} {torch.get_num_threads()}"]

    ran = [each.split() for each in processes(answer, 2).answers()]
    assert len({os.getpid(), *(int(process) for process, _ in ran)}) == 3
    assert {threads for _, threads in ran} == {"1"}


def test_an_error_is_raised_in_its_place_with_its_traceback(processes):
    def answer(batch: Sequence[Path]) -> list[str]:
        if batch[0].name == "1":
            raise LookupError("broken")
        return names(batch)

    answers = processes(answer).answers()
    assert next(answers) == "0"
    with pytest.raises(LookupError, match="broken") as raised:
        next(answers)
    assert 'raise LookupError("broken")' in raised.value.__notes__[0]


def test_a_process_takes_no_batch_after_an_error():
    def answer(batch: Sequence[Path]) -> list[str]:
        raise LookupError("broken")

    of = batches(3)
    assert len(list(answered(of, answer, lambda: 0, AHEAD))) == 1
    assert of.taken == 1


def test_a_stop_ends_the_answers_while_a_batch_runs(processes):
    opened = FORK.Event()

    def answer(batch: Sequence[Path]) -> list[str]:
        assert opened.wait(TIMEOUT_S)
        return names(batch)

    with pytest.raises(StopRequestedError):
        list(processes(answer, stop=True).answers())


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
        list(processes(answer, 20).answers())


def test_stop_signals_leave_the_end_to_the_command(processes):
    def answer(batch: Sequence[Path]) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return names(batch)

    assert list(processes(answer).answers()) == ["0", "1", "2"]


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
        list(processes(answer, 1).answers())


def test_processes_end_with_the_command_even_if_it_is_killed_while_they_wait_for_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    ours, theirs = FORK.Pipe()

    def answer(batch: Sequence[Path]) -> list[str]:
        theirs.send("running")
        (tmp_path / "fifo").read_bytes()  # nobody writes
        return []

    def command() -> None:
        list(Processes(2, 1, batches(2), answer, lambda: False).answers())

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
