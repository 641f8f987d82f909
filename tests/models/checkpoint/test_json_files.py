import pytest

from models.checkpoint.json_files import MAX_JSON_BYTES, read_document, write_document
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


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse
    with pytest.raises(CheckpointError, match=rf"config\.json has more than {MAX_JSON_BYTES} "):
        read_document(path)
