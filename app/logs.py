"""Owns how log lines look: text on a terminal, one JSON object a line elsewhere.

Knows nothing of what is logged.
"""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from functools import partial

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
    "PIL": logging.WARNING,  # a line for each tag of a picture
}


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
        return json.dumps(line, default=str)


def configure(level: str, replica: int | None = None) -> None:
    """Send every logger and warning of this process to standard error.

    Args:
        level: the least severe lines to log.
        replica: which of several this process is; every line says so.
    """
    handler = logging.StreamHandler()
    who = "" if replica is None else f"replica {replica} "
    text = logging.Formatter(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s")
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
