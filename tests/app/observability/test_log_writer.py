"""Log lines are written in order by a thread; a destination that nobody reads blocks no caller."""

import io
import logging
from threading import Event

import pytest

from app.observability import log_writer
from app.observability.log_writer import LogWriter, joined


class Gate(io.StringIO):
    """A destination that blocks until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = Event()

    def write(self, line: str) -> int:
        assert self.open.wait(60)
        return super().write(line)


class Writes(io.StringIO):
    """A destination that keeps each text that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = []
        self.written = Event()

    def write(self, text: str) -> int:
        self.texts.append(text)
        self.written.set()
        return len(text)


class Broken(io.StringIO):
    """A destination that has gone."""

    def write(self, line: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def logger(monkeypatch):
    """A logger with room for three lines of 7 characters, and a destination that blocks."""
    monkeypatch.setattr(log_writer, "MAX_WAITING", 21)
    stream = Gate()
    handler = LogWriter(stream)
    logger = logging.Logger("test")  # noqa: LOG001  # not one of the process
    logger.addHandler(handler)
    logger.stream, logger.handler = stream, handler
    yield logger
    stream.open.set()
    handler.close()


def test_lines_are_written_in_order_when_the_destination_is_read_again(logger):
    for number in range(3):
        logger.info("line %d", number)
    assert logger.stream.getvalue() == ""
    logger.stream.open.set()
    logger.handler.flush()
    assert logger.stream.getvalue() == "line 0\nline 1\nline 2\n"


def test_lines_without_room_are_dropped_and_counted(logger):
    for number in range(6):
        logger.info("line %d", number)
    logger.stream.open.set()
    logger.handler.flush()
    logger.info("line 6")
    logger.handler.flush()
    notice = "3 log lines were dropped: the log was full"
    expected = ["line 0", "line 1", "line 2", notice, "line 6"]
    assert logger.stream.getvalue().splitlines() == expected


def test_lines_that_come_soon_after_each_other_are_written_together():
    stream = Writes()
    handler = LogWriter(stream)
    for number in range(3):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))
    handler.close()
    assert stream.texts == ["line 0\nline 1\nline 2\n"]


def test_a_warning_and_a_flush_end_the_collecting(monkeypatch):
    monkeypatch.setattr(log_writer, "COLLECT_S", 1000.0)
    monkeypatch.setattr(log_writer, "FLUSH_S", 60.0)
    stream = Writes()
    handler = LogWriter(stream)
    handler.emit(logging.makeLogRecord({"msg": "line", "levelno": logging.INFO}))
    handler.emit(logging.makeLogRecord({"msg": "warning", "levelno": logging.WARNING}))
    assert stream.written.wait(60)
    handler.emit(logging.makeLogRecord({"msg": "last", "levelno": logging.INFO}))
    handler.flush()
    assert "".join(stream.texts) == "line\nwarning\nlast\n"
    handler.close()


def test_a_write_is_no_larger_than_a_pipe_takes_at_once_unless_a_single_line_is():
    lines = ["a" * 2000 + "\n", "b" * 2000 + "\n", "ä" * 100 + "\n", "c" * 5000 + "\n", "d\n"]
    assert list(joined(lines)) == [lines[0] + lines[1], lines[2], lines[3], lines[4]]


def test_the_time_for_the_last_lines_is_bounded(logger, monkeypatch):
    monkeypatch.setattr(log_writer, "FLUSH_S", 0.0)
    logger.info("line")
    logger.handler.flush()
    assert logger.stream.getvalue() == ""


def test_a_destination_that_has_gone_does_not_end_the_thread():
    handler = LogWriter(Broken())
    for _ in range(2):
        handler.emit(logging.makeLogRecord({"msg": "line", "levelno": logging.INFO}))
    handler.flush()
    assert handler._thread.is_alive()
    handler.close()
