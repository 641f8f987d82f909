"""Processes that answer batches of files on a CPU, forked from the command.

Threads of one process would wait for each other: for the interpreter, and for the allocator. The
fork comes after the model is loaded, so the processes share the memory of its weights.

Each process takes its next batch itself: for each message, the command runs on a core, and the
process there has to wait.
"""

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Generic, TypeVar, cast

from app.cli.shared_state import FORK, Batches
from app.core.process import stop_signals
from app.engine.lanes import set_torch_threads

Value = TypeVar("Value")
Answer = Callable[[Sequence[Path]], Sequence[Value]]
Answered = tuple[int, Sequence[Value] | Exception]  # the first file of a batch, and the answers
Messages = Callable[[], Iterator[Answered[Value]]]
PR_SET_PDEATHSIG = 1  # from sys/prctl.h of Linux
CHECK_S = 0.1  # between two checks whether the user has stopped the command
AHEAD = 16  # batches for each process that may be taken beyond the last reported file
AHEAD_S = 0.01  # between two looks of a process that is so far ahead
END_S = 5.0  # of waiting for the exit status of a killed process


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
        batches: of all files.
        answer: answers a batch, in a process; its answers must be picklable.
        stop_requested: tells whether the user has stopped the command.

    Raises:
        ProcessEndedError: the system starts no more processes.
    """

    def __init__(
        self,
        number: int,
        torch_threads: int,
        batches: Batches,
        answer: Answer[Value],
        stop_requested: Callable[[], bool],
    ) -> None:
        self._batches = batches
        self._stop_requested = stop_requested
        self._reported = FORK.RawValue("q", 0)  # files
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        ahead = AHEAD * number
        messages = partial(answered, batches, answer, lambda: self._reported.value, ahead)
        try:
            for _ in range(number):
                self._start(messages, torch_threads)
        except OSError as error:
            self.close()
            raise ProcessEndedError(
                f"a process cannot be started: {error}; lower PATCHSERVE_CORES"
            ) from error

    def _start(self, messages: Messages[Value], torch_threads: int) -> None:
        ours, theirs = FORK.Pipe()
        self._connections.append(ours)
        inherited = tuple(self._connections)
        process = FORK.Process(
            target=serve, args=(os.getpid(), theirs, inherited, messages, torch_threads)
        )
        process.start()
        theirs.close()
        self._processes.append(process)

    def answers(self) -> Iterator[Value]:
        """Yield the answers in the order of the files.

        Raises:
            StopRequestedError: the user has stopped the command; batches may still run.
            ProcessEndedError: a process has ended.
            Exception: of `answer`.
        """
        arrived: dict[int, Sequence[Value] | Exception] = {}
        while self._reported.value < self._batches.total:
            if self._stop_requested():
                raise StopRequestedError
            while self._reported.value not in arrived:
                for connection in self._ready():
                    start, found = self._receive(connection)
                    arrived[start] = found
            answers = arrived.pop(self._reported.value)
            if isinstance(answers, Exception):
                raise answers
            yield from answers
            self._reported.value += len(answers)

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

    def _receive(self, connection: Connection) -> Answered[Value]:
        try:
            return cast(Answered[Value], connection.recv())
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
    messages: Messages[Value],
    torch_threads: int,
) -> None:
    """Answer batches until none is left, and end with the command. The command gets the signals.

    Args:
        parent: the process of the command. The kernel kills this process when that one ends.
        connection: sends the messages.
        inherited: the command's ends of all connections, which must be open nowhere else: at its
            end, all processes read the end of theirs.
        messages: makes the messages.
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
        for message in messages():
            connection.send(message)
        connection.recv()  # the command sends nothing; this returns when it ends


def answered(
    batches: Batches, answer: Answer[Value], reported: Callable[[], int], ahead: int
) -> Iterator[Answered[Value]]:
    """Take batches until none is left or one has an error, and yield the answers of each.

    Args:
        batches: of all files.
        answer: answers a batch.
        reported: tells how many files the command has reported.
        ahead: batches that may be taken beyond the reported files; it bounds the answers in memory.
    """
    while batches.taken < batches.total:
        if batches.taken > reported() + ahead * batches.size:
            time.sleep(AHEAD_S)
        elif batch := batches.take():
            answers = outcome(answer, batch.files)
            yield batch.start, answers
            if isinstance(answers, Exception):  # the command ends with it
                return


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
