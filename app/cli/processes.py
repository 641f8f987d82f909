"""Processes that answer batches of files on a CPU, forked from the command.

Threads of one process would wait for each other: for the interpreter, and for the allocator. The
fork comes after the model is loaded, so the processes share the memory of its weights.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar, cast

from app.core.process import stop_signals
from app.engine.lanes import set_torch_threads

Value = TypeVar("Value")
Answer = Callable[[Sequence[Path]], Sequence[Value]]
DEPTH = 2  # batches of a process: one runs, and the next one has arrived
CHECK_S = 0.1  # between two checks whether the user has stopped the command
END_S = 5.0  # in which the system frees the memory of a killed process

CONTEXT = multiprocessing.get_context("fork")


class StopRequestedError(Exception):
    """The user has stopped the command."""


class ProcessEndedError(Exception):
    """A process has ended, so its batches have no answers."""


class Processes(Generic[Value]):
    """Processes that answer batches; start them before other threads of the command write.

    A process ends when the command does, whatever ends it, after the batch that it runs.

    Args:
        number: of processes.
        torch_threads: of each process. Until now only one torch thread has run: those of OpenMP do
            not survive a fork.
        answer: answers a batch, in a process; its answers must be picklable.
        stop_requested: tells whether the user has stopped the command.
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
        for _ in range(number):
            ours, theirs = CONTEXT.Pipe()
            self._connections.append(ours)
            inherited = tuple(self._connections)
            process = CONTEXT.Process(target=serve, args=(theirs, inherited, answer, torch_threads))
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
        """Let the processes end after the batches that they run."""
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
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with {code}"
        return ProcessEndedError(
            f"a process that answers images {how}; if memory is short, lower PATCHSERVE_CORES"
        )


def serve(
    connection: Connection,
    inherited: Sequence[Connection],
    answer: Answer[Value],
    torch_threads: int,
) -> None:
    """Answer batches until the command closes the connection. The command handles the signals.

    Args:
        connection: gets the numbers of batches and their files, and sends numbers and answers.
        inherited: the command's ends of all connections, which must be open nowhere else: at its
            end, all processes read the end of theirs.
        answer: answers a batch.
        torch_threads: of this process.
    """
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
        error.add_note(traceback.format_exc())
        return error


class SharedSemaphore:
    """A semaphore with amounts for threads and processes: their sum is at most `size`.

    Requests are granted in order, so small amounts cannot starve a large one.

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
