"""Log lines: JSON where nobody looks, text on a terminal, and what is not worth one."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from app import logs


class Stream(io.StringIO):
    """Standard error, perhaps a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.LEAST}
    with warnings.catch_warnings():
        yield
        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, least in levels.items():
        logging.getLogger(name).setLevel(least)


@pytest.fixture
def configured(monkeypatch):
    """Configure the logs and return what they write to."""

    def configure(level: str = "info", is_terminal: bool = False) -> Stream:
        stream = Stream(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(level)
        return stream

    return configure


def lines(stream: Stream) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_a_json_object_with_every_extra_field(configured):
    stream = configured()
    logging.getLogger("app.test").info("%d of %s", 3, "four", extra={"request_id": "id-1"})
    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("time")).utcoffset().total_seconds() == 0
    assert line == {
        "level": "info",
        "logger": "app.test",
        "message": "3 of four",
        "request_id": "id-1",
    }


def test_what_json_does_not_know_is_written_as_text(configured):
    stream = configured()
    logging.getLogger("app.test").info("with", extra={"error": ValueError("a"), "parts": {1}})
    assert lines(stream)[0]["error"] == "a"
    assert lines(stream)[0]["parts"] == "{1}"


def test_a_message_of_several_lines_is_one_line(configured):
    stream = configured()
    logging.getLogger("app.test").info('first\nsecond {"level": "error"} ü')
    assert len(stream.getvalue().splitlines()) == 1
    assert lines(stream)[0]["message"] == 'first\nsecond {"level": "error"} ü'


def test_an_exception_is_a_field_of_its_line(configured):
    stream = configured()
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("app.test").exception("failed")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: the reason")


def test_on_a_terminal_lines_are_text(configured):
    stream = configured(is_terminal=True)
    logging.getLogger("app.test").warning("hot")
    assert stream.getvalue().endswith("WARNING app.test: hot\n")


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("info", 2), ("warning", 1)])
def test_the_level_decides_what_is_written(configured, level, seen):
    stream = configured(level)
    logger = logging.getLogger("app.test")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    assert len(lines(stream)) == seen


def test_libraries_that_talk_much_are_heard_less(configured):
    stream = configured("debug")
    for name in ("httpx", "httpcore.http11", "filelock"):
        logging.getLogger(name).info("GET https://example.org")
    logging.getLogger("PIL.PngImagePlugin").debug("STREAM IHDR 16 13")
    logging.getLogger("python_multipart.multipart").warning("Expected boundary character")
    logging.getLogger("httpx").warning("slow")
    assert [line["message"] for line in lines(stream)] == ["slow"]


def test_configuring_again_replaces_the_first(configured):
    first, second = configured(), configured()
    logging.getLogger("app.test").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_warnings_become_log_lines(configured):
    stream = configured()
    warnings.simplefilter("always")
    warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "old ways" in line["message"]


def test_what_pillow_warns_of_is_not_worth_a_line(configured):
    stream = configured()
    warnings.warn_explicit("Corrupt EXIF data", UserWarning, "a.py", 1, "PIL.TiffImagePlugin")
    assert stream.getvalue() == ""
