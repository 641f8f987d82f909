"""Processes that answer batches of files on a CPU, forked from the command.

Threads of one process would wait for each other: for the interpreter, and for the allocator. The
fork comes after the model is loaded, so the processes share the memory of its weights.
"""

import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Generic, TypeVar, cast

from app.core.process import stop_signals
from app.engine.lanes import set_torch_threads

Value = TypeVar("Value")
Answer = Callable[[Sequence[Path]], Sequence[Value]]
PR_SET_PDEATHSIG = 1  # from sys/prctl.h of Linux
DEPTH = 2  # batches of a process: one runs, and the next one has arrived
CHECK_S = 0.1  # between two checks whether the user has stopped the command
END_S = 5.0  # of waiting for the exit status of a killed process

CONTEXT = multiprocessing.get_context("fork")


class StopRequestedError(Exception):
    """The user has stopped the command."""


class ProcessEndedError(Exception):
    """A process has ended, so its batches have no answers."""


class Processes(Generic[Value]):
    """Processes that answer batches; each ends when the command does, whatever ends it.

    Start them on the main thread. Before, torch must have used one thread only: the threads of
    OpenMP do not survive a fork. No other thread may write meanwhile: a lock that it holds, such as
    that of standard error, would stay locked in the process.

    Args:
        number: of processes.
        torch_threads: of each process.
        answer: answers a batch, in a process; its answers must be picklable.
        stop_requested: tells whether the user has stopped the command.

    Raises:
        ProcessEndedError: the system starts no more processes.
    """

    def __init__(
        self,
        number: int,
        torch_threads: int,
        answer: Answer[Value],
        stop_requested: Callable[[], bool],
    ) -> None:
        self._stop_requested = stop_requested
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        try:
            for _ in range(number):
                self._start(answer, torch_threads)
        except OSError as error:
            self.close()
            raise ProcessEndedError(
                f"a process cannot be started: {error}; lower PATCHSERVE_CORES"
            ) from error

    def _start(self, answer: Answer[Value], torch_threads: int) -> None:
        ours, theirs = CONTEXT.Pipe()
        self._connections.append(ours)
        inherited = tuple(self._connections)
        process = CONTEXT.Process(
            target=serve, args=(os.getpid(), theirs, inherited, answer, torch_threads)
        )
        process.start()
        theirs.close()
        self._processes.append(process)

    def answer(self, batches: Iterator[Sequence[Path]], window: int) -> Iterator[Value]:
        """Yield the answers of batches in their order.

        Args:
            batches: of files.
            window: batches that run, wait, or are done before an earlier one.

        Raises:
            StopRequestedError: the user has stopped the command; batches may still run.
            ProcessEndedError: a process has ended.
            Exception: of `answer`.
        """
        free = self._connections * DEPTH
        done: dict[int, Sequence[Value] | Exception] = {}
        sent = 0
        for first in count():
            while first not in done:
                while free and sent < first + window and (batch := next(batches, None)):
                    self._send(free.pop(0), (sent, batch))
                    sent += 1
                if first == sent:
                    return
                for connection in self._ready():
                    number, answers = self._receive(connection)
                    done[number] = answers
                    free.append(connection)
            answers = done.pop(first)
            if isinstance(answers, Exception):
                raise answers
            yield from answers

    def close(self) -> None:
        """End the processes at once, also if they run a batch."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(END_S)
        for connection in self._connections:
            connection.close()

    def _ready(self) -> Iterator[Connection]:
        """Wait until a process has answered, or ended; yield its connection."""
        ready: list[Connection] = []
        while not ready:
            if self._stop_requested():
                raise StopRequestedError
            ready = cast(list[Connection], wait(self._connections, CHECK_S))
        yield from ready

    def _send(self, connection: Connection, batch: tuple[int, Sequence[Path]]) -> None:
        try:
            connection.send(batch)
        except OSError as error:
            raise self._ended(connection) from error

    def _receive(self, connection: Connection) -> tuple[int, Sequence[Value] | Exception]:
        try:
            return connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended(connection) from error

    def _ended(self, connection: Connection) -> ProcessEndedError:
        """End the other processes, which may wait for something that the ended one holds."""
        process = self._processes[self._connections.index(connection)]
        process.join(END_S)
        code = process.exitcode
        for each in self._processes:
            each.kill()
        how = "has closed its connection" if code is None else f"ended with {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
        if code == -signal.SIGKILL:
            how += "; if memory is short, lower PATCHSERVE_CORES"
        return ProcessEndedError(f"a process that answers images {how}")


def serve(
    parent: int,
    connection: Connection,
    inherited: Sequence[Connection],
    answer: Answer[Value],
    torch_threads: int,
) -> None:
    """Answer batches until the command closes the connection. The command handles the signals.

    Args:
        parent: the process of the command. The kernel kills this process when that one ends.
        connection: gets the numbers of batches and their files, and sends numbers and answers.
        inherited: the command's ends of all connections, which must be open nowhere else: at its
            end, all processes read the end of theirs.
        answer: answers a batch.
        torch_threads: of this process.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        return
    for each in stop_signals():
        signal.signal(each, signal.SIG_IGN)
    for other in inherited:
        other.close()
    set_torch_threads(torch_threads)
    with suppress(EOFError, ConnectionError):
        while True:
            number, files = connection.recv()
            connection.send((number, outcome(answer, files)))


def outcome(answer: Answer[Value], files: Sequence[Path]) -> Sequence[Value] | Exception:
    """The answers of a batch, or the error, with its traceback as a note."""
    try:
        return answer(files)
    except Exception as error:  # noqa: BLE001  # the command raises it
        text = traceback.format_exc()
        error.add_note(text)
        try:
            ForkingPickler.dumps(copy(error))  # the command makes it in the same way
        except Exception:  # noqa: BLE001  # an error may have any type
            return RuntimeError(text)
        return error


class SharedSemaphore:
    """A semaphore with amounts for threads and processes: their sum is at most `size`.

    One request at a time waits for its amount, and the others wait behind it, so small amounts
    cannot overtake a large one. For threads alone there is `app.imaging.pixel_budget`.

    Args:
        size: the largest sum of the amounts.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._turn = CONTEXT.Lock()  # of the one that waits until its amount fits
        self._changed = CONTEXT.Condition()
        self._held = CONTEXT.RawValue("q", 0)

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until the amount fits, and hold it in the `with` block.

        An amount larger than `size` counts as `size`.
        """
        amount = min(amount, self._size)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._held.value + amount <= self._size)
            self._held.value += amount
        try:
            yield
        finally:
            with self._changed:
                self._held.value -= amount
                self._changed.notify()
