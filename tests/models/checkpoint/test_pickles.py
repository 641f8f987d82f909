"""Files of torch.save that expand, or are not weights, are refused before torch reads them."""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch

from models.checkpoint.pickles import MAX_PICKLE_BYTES, check_pickle


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pytorch_model.bin"


def archive(path, compression=zipfile.ZIP_STORED, **members):
    """Write a zip archive as torch.save does, with these members."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"archive/{name.replace('_', '.')}", content)


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_all_float_formats_are_accepted(path, zipped):
    state = torch.nn.Linear(2, 3).state_dict()  # an OrderedDict with metadata
    state["parameter"] = torch.nn.Parameter(torch.ones(2).bfloat16())
    state["half"], state["count"] = torch.ones(3, 2).half().t(), torch.tensor(7)
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    check_pickle(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_archive_is_refused(path, method):
    archive(path, method, data_pkl=pickle.dumps({}, 2), data_0=bytes(2**24))
    with pytest.raises(pickle.UnpicklingError, match="compressed"):
        check_pickle(path)


OTHERS = [bytearray(9), Counter(), range(3), io.BytesIO(), torch.eye(2).to_sparse()]


@pytest.mark.parametrize("objects", [*OTHERS, torch.ones(2, device="meta")])
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_that_are_no_tensors_are_refused(path, objects, zipped):
    torch.save({"a": objects}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match="not only tensors"):
        check_pickle(path)


def test_computed_imports_are_refused(path):
    archive(path, data_pkl=pickle.dumps(OrderedDict(), 4))
    with pytest.raises(pickle.UnpicklingError, match="contains objects"):
        check_pickle(path)


def test_a_pickle_that_is_much_longer_than_that_of_a_network_is_refused(path):
    long = pickle.dumps(list(range(10**6)), 2)
    assert len(long) > MAX_PICKLE_BYTES
    archive(path, data_pkl=long)
    with pytest.raises(pickle.UnpicklingError, match="more than"):
        check_pickle(path)
    path.write_bytes(long)
    with pytest.raises(pickle.UnpicklingError, match="more than"):
        check_pickle(path)


def test_an_archive_without_a_pickle_or_with_two_is_refused(path):
    for members in ({"version": "3"}, {"data_pkl": b"N.", "b/data_pkl": b"N."}):
        archive(path, **members)
        with pytest.raises(pickle.UnpicklingError, match=r"exactly one data\.pkl"):
            check_pickle(path)
