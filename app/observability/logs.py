"""The format of log lines: text on a terminal, JSON elsewhere."""

import json
import logging
import re
import sys
import warnings
from datetime import UTC, datetime
from functools import partial

from pydantic_core import to_json

from app.observability.log_writer import LogWriter

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}
MIN_LEVELS = {
    "httpx": logging.WARNING,  # the hub's client logs a line per file
    "httpcore": logging.WARNING,
    "filelock": logging.WARNING,
    "python_multipart": logging.ERROR,  # the response describes a broken body
    "PIL": logging.CRITICAL,  # the response describes a broken image; Pillow logs a line per tag
}
TEXT_FIELDS = ("request_id", "code", "cause", "place", "batch_size")  # shown in a line of text
WORD = re.compile(r"[\w.:-]+", re.ASCII)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
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
            return to_json(line, fallback=str).decode()  # four times faster than json.dumps
        except ValueError:  # bytes or text that is not valid Unicode
            return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line of text: time, level, logger, message, and the main fields of a request."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line without a traceback."""
        values = vars(record)
        fields = {name: values[name] for name in TEXT_FIELDS if name in values}
        fields |= values.get("stages_ms", {})
        parts = [f"{name}={_word(value)}" for name, value in fields.items()]
        return " ".join([super().formatMessage(record), *parts])


def _word(value: object) -> str:
    """A value as one word, or quoted and escaped, so that it cannot end the line."""
    text = str(value)
    return text if WORD.fullmatch(text) else json.dumps(text)


def configure(level: str, replica: int | None = None) -> None:
    """Write all logs and warnings of this process to standard error.

    Args:
        level: lowest level that is logged.
        replica: number of the replica that this process is, if there are several; added to each
            line.
    """
    handler = LogWriter(sys.stderr)
    prefix = "" if replica is None else f"replica {replica} "
    text = TextFormatter(f"%(asctime)s %(levelname)-7s {prefix}%(name)s: %(message)s")
    if replica is not None:
        handler.addFilter(partial(_add_replica, replica))
    handler.setFormatter(text if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, min_level in MIN_LEVELS.items():
        logging.getLogger(name).setLevel(min_level)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata, with text from files


def _add_replica(replica: int, record: logging.LogRecord) -> bool:
    record.replica = replica
    return True
