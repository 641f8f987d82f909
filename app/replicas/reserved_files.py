"""Files of metrics whose space is reserved, so that a full file system cannot kill a replica.

A replica maps its files into memory. If a page of a sparse file gets its first value when the file
system is full, the system ends the process by SIGBUS. The parent therefore creates all files with
zeros before the first replica starts, and nothing removes one while the service runs.
"""

import logging
import os
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")  # of files of a replica
GAUGES = KINDS[2:]  # of which an ended replica has none
FILE_BYTES = 2**19  # two models have 0.3 MB of histograms; a file that is full is doubled
ENTRY_BYTES = 4 + 8 + 16  # of a series besides its key: length, padding, value and time

logger = logging.getLogger(__name__)


def path_of(directory: str, kind: str, index: int) -> Path:
    """The path of a file, as prometheus-client names it for the replica of an index."""
    return Path(directory) / f"{kind}_{index}.db"


def create_files(directory: str, count: int) -> None:
    """Create the files of `count` replicas with their space.

    Raises:
        OSError: the file system is full.
    """
    try:
        for index in range(count):
            for kind in KINDS:
                path_of(directory, kind, index).write_bytes(bytes(FILE_BYTES))
    except OSError as error:
        advice = f"{error.strerror}; free some space, or set TMPDIR to another folder"
        raise OSError(error.errno, advice, directory) from error


def clear_gauges(directory: str, index: int) -> None:
    """Remove the gauges of a replica that has ended; the files and their space stay."""
    for kind in GAUGES:
        with path_of(directory, kind, index).open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.write(bytes(size))


class ReservedFile(MmapedDict):
    """A file of metrics that reserves space before it grows.

    Without space, new series are left out.
    """

    _full = False

    def read_value(self, key: str) -> tuple[float, float]:
        """The value and the time of a series; 0 if there is no space for it."""
        if not self._has_space(key):
            return 0.0, 0.0
        return super().read_value(key)  # type: ignore[no-untyped-call]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set the value and the time of a series, if there is space for it."""
        if self._has_space(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _has_space(self, key: str) -> bool:
        if key in self._positions:
            return True
        if self._used + len(key.encode()) + ENTRY_BYTES <= self._capacity:
            return True
        return not self._full and self._grow()

    def _grow(self) -> bool:
        """Double the file; prometheus-client then maps the new size."""
        try:
            with Path(self._fname).open("ab") as file:
                file.write(bytes(self._capacity))
        except OSError as error:
            self._full = True
            logger.error("new series are not in the metrics: %s: %s", self._fname, error.strerror)
        return not self._full
