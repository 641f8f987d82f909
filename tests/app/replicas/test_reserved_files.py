"""The files of metrics have their space before a replica starts, and keep it."""

import errno
import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from app.replicas.reserved_files import (
    FILE_BYTES,
    KINDS,
    ReservedFile,
    clear_gauges,
    create_files,
    path_of,
)


def allocated(path):
    """Bytes of a file that have space on the disk."""
    return path.stat().st_blocks * 512


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def reserved(tmp_path):
    """Opens the file of the counters of replica 0, with little space left in it."""
    create_files(str(tmp_path), 1)
    opened = []

    def reopen():
        opened.append(ReservedFile(str(path_of(str(tmp_path), "counter", 0))))
        return opened[-1]

    yield reopen
    for file in opened:
        file.close()


def fill(file):
    """Add series until the next one needs another page."""
    number = 0
    while file._used + 100 < file._capacity:
        file.write_value(f"series {number:06d}", 1.0, 0.0)
        number += 1


def test_all_files_have_their_space(tmp_path):
    create_files(str(tmp_path), 2)
    files = [path_of(str(tmp_path), kind, index) for kind in KINDS for index in range(2)]
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert all(allocated(file) >= FILE_BYTES for file in files)


def test_cleared_gauges_have_no_series_and_keep_their_space(tmp_path):
    create_files(str(tmp_path), 1)
    path = path_of(str(tmp_path), "gauge_livesum", 0)
    file = ReservedFile(str(path))
    file.write_value("depth", 3.0, 0.0)
    file.close()
    clear_gauges(str(tmp_path), 0)
    assert list(MmapedDict.read_all_values_from_file(str(path))) == []
    assert allocated(path) >= FILE_BYTES


def test_a_full_file_system_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left.*; free some space, or set TMPDIR"):
        create_files(str(tmp_path), 2)


def test_a_file_grows_with_its_space(reserved):
    file = reserved()
    fill(file)
    file.write_value("x" * 200, 2.0, 0.0)
    assert file.read_value("x" * 200) == (2.0, 0.0)
    assert allocated(Path(file._fname)) >= 2 * FILE_BYTES
    assert reserved().read_value("x" * 200) == (2.0, 0.0)


def test_without_space_new_series_are_left_out_and_the_others_continue(
    reserved, monkeypatch, caplog
):
    file = reserved()
    fill(file)
    monkeypatch.setattr(Path, "open", full)
    for _ in range(2):
        file.write_value("x" * 200, 2.0, 0.0)
    file.write_value("series 000000", 5.0, 0.0)
    assert file.read_value("x" * 200) == (0.0, 0.0)
    assert file.read_value("series 000000") == (5.0, 0.0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
