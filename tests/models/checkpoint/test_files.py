import os
import socket

import pytest

from models.checkpoint.files import is_present
from models.errors import CheckpointError


def test_a_file_and_a_link_to_a_file_are_present(tmp_path):
    (tmp_path / "blob").write_text("")
    (tmp_path / "link").symlink_to("blob")
    assert is_present(tmp_path / "blob")
    assert is_present(tmp_path / "link")
    assert not is_present(tmp_path / "other")


def a_pipe(path):
    os.mkfifo(path)


def a_link_to_a_device(path):
    path.symlink_to("/dev/zero")


def a_folder(path):
    path.mkdir()


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # the length of an address is limited


def a_link_without_a_target(path):
    path.symlink_to("nothing")


@pytest.mark.parametrize(
    "make", [a_pipe, a_link_to_a_device, a_folder, a_socket, a_link_without_a_target]
)
def test_anything_else_is_refused_by_name(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match=r"^config\.json cannot be read: "):
        is_present(tmp_path / "config.json")
