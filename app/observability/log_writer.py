"""Writes log lines from a thread, so that a destination that nobody reads blocks nothing else."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import TextIO

MAX_WAITING = 2**22  # characters that wait for the thread; a line has about 300
COLLECT_S = 0.05  # lines of this time are written together
WRITE_BYTES = 4096  # of one write to a pipe: writes of other replicas are not mixed with it
FLUSH_S = 1.0  # time limit of `flush`: at an exit, nobody may read the lines


class LogWriter(logging.Handler):
    """A handler that formats a record in the caller's thread and writes its line in its own.

    The thread collects lines for COLLECT_S: if it wrote each one at once, it would take Python's
    lock from the event loop and the lanes for each request. A warning or an error is written at
    once. If more than MAX_WAITING characters wait, lines are dropped; a later line says how many.
    Each count has one writer: callers, which hold the lock of the handler, or the thread.

    Args:
        stream: the destination.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._items: SimpleQueue[str | Event | None] = SimpleQueue()
        self._put = 0  # characters, counted by callers
        self._dropped = 0  # lines, counted by callers
        self._urgent = Event()  # ends the collecting
        self._written = 0  # characters, counted by the thread
        self._reported = 0  # dropped lines, counted by the thread
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and leave its line to the thread. This does not block."""
        try:
            line = self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001  # a log call must not raise
            line = self._own_line(f"a log line cannot be formatted: {record.msg!r}: {error!r}")
        if self._waiting() + len(line) > MAX_WAITING:
            self._dropped += 1
            return
        self._put += len(line)
        self._items.put(line)
        if record.levelno >= logging.WARNING:
            self._urgent.set()

    def flush(self) -> None:
        """Wait until all lines are written, for FLUSH_S at most."""
        done = Event()
        self._items.put(done)
        self._urgent.set()
        done.wait(FLUSH_S if self._thread.is_alive() else 0)

    def close(self) -> None:
        """Write all lines, and end the thread."""
        self.flush()
        self._items.put(None)
        super().close()

    def _waiting(self) -> int:
        return self._put - self._written

    def _own_line(self, message: str) -> str:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)
        self.filter(record)  # adds the number of the replica
        return self.format(record) + "\n"

    def _run(self) -> None:
        items: list[str | Event | None] = []
        while None not in items:
            items = [self._items.get()]
            if isinstance(items[0], str):
                self._urgent.wait(COLLECT_S)
            self._urgent.clear()
            while not self._items.empty():
                items.append(self._items.get())
            for text in joined([item for item in items if isinstance(item, str)]):
                self._write(text)
                self._written += len(text)
            self._report_dropped()
            for item in items:
                if isinstance(item, Event):
                    item.set()

    def _report_dropped(self) -> None:
        dropped = self._dropped - self._reported
        if dropped:
            self._reported += dropped
            self._write(self._own_line(f"{dropped} log lines were dropped: the log was full"))

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the reader has gone, or the stream is closed
            self._stream.write(text)
            self._stream.flush()


def joined(lines: Sequence[str]) -> Iterator[str]:
    """Join lines to texts of at most WRITE_BYTES; a longer line is alone."""
    text, size = "", 0
    for line in lines:
        more = len(line.encode(errors="replace"))
        if text and size + more > WRITE_BYTES:
            yield text
            text, size = "", 0
        text += line
        size += more
    if text:
        yield text
