import pytest

from models.checkpoint.json_files import read_document, write_document
from models.errors import CheckpointError


def test_a_document_is_read_back_as_it_was_written(tmp_path):
    written = {"id2label": {"0": "Straße"}, "sizes": [1, 2.5], "none": None}
    write_document(tmp_path / "config.json", written)
    assert read_document(tmp_path / "config.json") == written


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3"])
def test_the_error_names_a_file_that_is_not_a_json_object(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_document(tmp_path / "config.json")


def test_a_missing_json_file_is_reported(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: no such file"):
        read_document(tmp_path / "config.json")
