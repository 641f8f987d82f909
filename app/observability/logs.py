"""Owns how log lines look: text on a terminal, one JSON object a line elsewhere.

Knows nothing of what is logged.
"""

import json
import logging
import re
import sys
import time
import warnings
from _thread import start_new_thread
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TextIO

from pydantic_core import to_json

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}
LEAST = {
    "httpx": logging.WARNING,  # the hub's client: a line a file
    "httpcore": logging.WARNING,
    "filelock": logging.WARNING,
    "python_multipart": logging.ERROR,  # of a broken body its sender is told
    "PIL": logging.CRITICAL,  # the same of a broken picture, and a line for each of its tags
}
BESIDE = ("request_id", "code", "cause", "place", "batch_size")  # in a line of text
WORD = re.compile(r"[\w.:-]+", re.ASCII)
TOGETHER_S = 0.1  # lines that follow each other more closely are written together


class BufferedHandler(logging.StreamHandler[TextIO]):
    """Writes lines that come in close succession together, a tenth of a second late at most.

    A write lets go of the interpreter, and a loaded service waits to have it back from threads that
    compute. A line that comes alone is written at once, and so is a warning or worse, with all
    lines before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._written = -inf

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, and see that it is written in time."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001  # what a handler does with what cannot be formatted
            self.handleError(record)
        waited = time.monotonic() - self._written
        if record.levelno >= logging.WARNING or waited >= TOGETHER_S:
            self.flush()
        elif len(self._lines) == 1:
            self._flush_later()

    def flush(self) -> None:
        """Write the lines taken so far."""
        self.acquire()
        try:
            text, self._lines = "".join(self._lines), []
            self._written = time.monotonic()
            with suppress(ValueError, OSError):  # closed: nobody reads any more
                self.stream.write(text)
                self.stream.flush()
        finally:
            self.release()

    def _flush_later(self) -> None:
        # a threading.Timer would wait for its thread, for ever where there is no memory to begin it
        with suppress(RuntimeError):  # the process ends, and logging flushes what is left
            start_new_thread(self._flush_after, (TOGETHER_S,))

    def _flush_after(self, seconds: float) -> None:
        time.sleep(seconds)
        self.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and every extra field of the record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in STANDARD_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return to_json(line, fallback=str).decode()  # four times as quick as the next
        except ValueError:  # bytes or text that are no Unicode
            return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line of text: time, level, logger, message, and what a request's line has beside it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line without a trace."""
        known = vars(record)
        told = {name: known[name] for name in BESIDE if name in known} | known.get("stages_ms", {})
        parts = [f"{name}={_word(value)}" for name, value in told.items()]
        return " ".join([super().formatMessage(record), *parts])


def _word(value: object) -> str:
    """A value as one word, or as a text in quotes in which nothing can end the line."""
    text = str(value)
    return text if WORD.fullmatch(text) else json.dumps(text)


def configure(level: str, replica: int | None = None) -> None:
    """Send every logger and warning of this process to standard error.

    Args:
        level: the least severe lines to log.
        replica: which of several this process is; every line says so.
    """
    handler = BufferedHandler()
    who = "" if replica is None else f"replica {replica} "
    text = TextFormatter(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s")
    if replica is not None:
        handler.addFilter(partial(_mark, replica))
    handler.setFormatter(text if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in LEAST.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata, in words a file can choose


def _mark(replica: int, record: logging.LogRecord) -> bool:
    record.replica = replica
    return True
