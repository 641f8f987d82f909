import pytest

from models.checkpoint import CheckpointError
from models.training.fitting.record import RECORD, Record, read_record, write_record


def test_a_record_is_read_back(tmp_path):
    assert read_record(tmp_path) is None
    write_record(tmp_path, Record(7, 16, at_input_size=True), {"accuracy": 0.5})
    assert read_record(tmp_path) == Record(7, 16, at_input_size=True)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"seed": "1"}',
        '{"seed": -1}',
        '{"batch_size": 0}',
        '{"batch_size": 1000000}',
        '{"batch_size": true}',
        '{"at_input_size": 1}',
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(CheckpointError, match=r"training\.json"):
        read_record(tmp_path)
