"""Log lines: JSON, text on a terminal, and levels."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from app.observability import logs


class Stream(io.StringIO):
    """Standard error, as a terminal or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.MIN_LEVELS}
    with warnings.catch_warnings():
        yield
        logging.captureWarnings(False)
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, min_level in levels.items():
        logging.getLogger(name).setLevel(min_level)


@pytest.fixture
def configured(monkeypatch):
    """Configure the logs and return their stream."""

    def configure(level: str = "info", is_terminal: bool = False) -> Stream:
        stream = Stream(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(level)
        return stream

    return configure


def text(stream: Stream) -> str:
    """All that has been logged."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return stream.getvalue()


def lines(stream: Stream) -> list[dict]:
    return [json.loads(line) for line in text(stream).splitlines()]


def test_a_line_is_a_json_object_with_all_extra_fields(configured):
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


def test_values_that_json_does_not_have_are_written_as_text(configured):
    stream = configured()
    logging.getLogger("app.test").info("with", extra={"error": ValueError("a"), "parts": {1}})
    assert lines(stream)[0]["error"] == "a"
    assert lines(stream)[0]["parts"] == [1]


def test_invalid_unicode_is_written(configured):
    stream = configured()
    logging.getLogger("app.test").info("\udcff", extra={"data": b"\xff"})
    assert lines(stream)[0]["message"] == "\udcff"
    assert lines(stream)[0]["data"] == "b'\\xff'"


def test_a_message_of_several_lines_is_one_line(configured):
    stream = configured()
    logging.getLogger("app.test").info('first\nsecond {"level": "error"} ü')
    assert len(text(stream).splitlines()) == 1
    assert lines(stream)[0]["message"] == 'first\nsecond {"level": "error"} ü'


def test_an_exception_is_a_field(configured):
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
    assert text(stream).endswith("WARNING app.test: hot\n")


def test_on_a_terminal_the_line_of_a_request_has_its_main_fields(configured):
    stream = configured(is_terminal=True)
    fields = {
        "code": "overloaded",
        "cause": 'full\n"up"',
        "stages_ms": {"read": 0.4, "decode": 2.1},
    }
    extra = {"request_id": "id-1", "route": "/classify", "batch_size": 0, **fields}
    logging.getLogger("app.test").info("POST /classify 503 2.6 ms", extra=extra)
    expected = (
        'request_id=id-1 code=overloaded cause="full\\n\\"up\\"" batch_size=0 read=0.4 decode=2.1'
    )
    assert text(stream).endswith(f"app.test: POST /classify 503 2.6 ms {expected}\n")


def test_on_a_terminal_a_traceback_follows_its_line(configured):
    stream = configured(is_terminal=True)
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("app.test").exception("failed", extra={"request_id": "id-1"})
    first, *_, last = text(stream).splitlines()
    assert first.endswith("app.test: failed request_id=id-1")
    assert last == "ValueError: the reason"


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("info", 2), ("warning", 1)])
def test_the_level_decides_what_is_written(configured, level, seen):
    stream = configured(level)
    logger = logging.getLogger("app.test")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    assert len(lines(stream)) == seen


def test_verbose_libraries_have_higher_levels(configured):
    stream = configured("debug")
    for name in ("httpx", "httpcore.http11", "filelock"):
        logging.getLogger(name).info("GET https://example.org")
    logging.getLogger("PIL.PngImagePlugin").debug("STREAM IHDR 16 13")
    logging.getLogger("python_multipart.multipart").warning("Expected boundary character")
    logging.getLogger("httpx").warning("slow")
    assert [line["message"] for line in lines(stream)] == ["slow"]


def test_a_line_that_cannot_be_formatted_is_reported_and_does_not_affect_others(configured):
    stream = configured()
    logging.getLogger("app.test").info("%d", "no number")
    logging.getLogger("app.test").warning("after")
    first, second = (line["message"] for line in lines(stream))
    assert first.startswith("a log line cannot be formatted: '%d': TypeError")
    assert second == "after"


def test_a_second_configuration_replaces_the_first(configured):
    first, second = configured(), configured()
    logging.getLogger("app.test").info("once")
    assert text(first) == ""
    assert len(lines(second)) == 1


def test_warnings_become_log_lines(configured):
    stream = configured()
    warnings.simplefilter("always")
    warnings.warn("deprecated call", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "deprecated call" in line["message"]


def test_warnings_of_pillow_are_not_logged(configured):
    stream = configured()
    warnings.warn_explicit("Corrupt EXIF data", UserWarning, "a.py", 1, "PIL.TiffImagePlugin")
    assert text(stream) == ""
