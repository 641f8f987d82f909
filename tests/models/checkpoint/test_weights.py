import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.checkpoint.unusual_folders import WEIGHT_FILES
from models.checkpoint.weights import read_file, read_files, weight_files, write_weights
from models.errors import CheckpointError

TENSORS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(7),
    "c": torch.ones(2).half(),
}


def read_weights(folder):
    return read_files(weight_files(folder))


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def write_shards(folder, stem, suffix, shard_of=None):
    names = [f"{stem}-0000{i}-of-00002{suffix}" for i in (1, 2)]
    write(folder / names[0], {k: TENSORS[k] for k in ("a.weight",)})
    write(folder / names[1], {k: TENSORS[k] for k in ("b", "c")})
    index = {"a.weight": names[0], "b": names[1], "c": names[1]} | (shard_of or {})
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": index}))


def assert_read(folder):
    read = read_weights(folder)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_single_file_is_read(name, tmp_path):
    write(tmp_path / name, TENSORS)
    assert_read(tmp_path)


def test_a_pickle_in_the_old_format_is_read(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    assert_read(tmp_path)


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_shards_are_read(stem, suffix, tmp_path):
    write_shards(tmp_path, stem, suffix)
    assert_read(tmp_path)


def test_weight_files_are_read_in_order_of_preference(tmp_path):
    for name in reversed(WEIGHT_FILES):
        if name.endswith(".json"):
            stem, suffix = name.split(".")[:2]
            write_shards(tmp_path, stem, f".{suffix}")
            assert set(read_weights(tmp_path)) == set(TENSORS)
        else:
            write(tmp_path / name, {name: torch.zeros(1)})
            assert set(read_weights(tmp_path)) == {name}


def test_written_weights_are_read_back_and_have_the_format_mark(tmp_path):
    strided = {"t": torch.arange(6.0).view(2, 3).t().requires_grad_()}
    write_weights(tmp_path, strided)
    assert torch.equal(read_weights(tmp_path)["t"], strided["t"])
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_error_for_missing_weights_lists_the_known_file_names(tmp_path):
    with pytest.raises(CheckpointError, match=r"looked for model\.safetensors, "):
        read_weights(tmp_path)


class MakesFolder:  # when unpickled
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_executed(zipped, tmp_path):
    torch.save(
        {"a": MakesFolder(tmp_path / "made")},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read"):
        read_weights(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_the_error_names_the_damaged_file(name, damage, tmp_path):
    path = tmp_path / name
    write(path, TENSORS)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[:-100], "noise": b"\x99" * 500}[damage])
    with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_every_damage_to_a_pickle_is_a_checkpoint_error(zipped, tmp_path):
    path, damaged = tmp_path / "model.pth", tmp_path / "damaged.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    start = content.index(b"\x80\x02}") if zipped else 0  # of the pickle
    for position in range(start, start + 400):
        for byte in b".R0":
            damaged.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
            with suppress(CheckpointError):  # some changes do no harm
                read_file(damaged)


def test_a_git_lfs_pointer_is_reported(tmp_path):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "model.safetensors").write_text(text)
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "is not a state dict"),
        ({"a": torch.ones(1), "epoch": 3}, "entries that are not tensors: epoch"),
        ({0: torch.ones(1)}, "entries that are not tensors: 0"),
    ],
)
def test_a_pickle_that_is_not_a_state_dict_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/etc/passwd",
        "sub/model.safetensors",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "..",
        "",
        "pytorch_model.bin",
        "config.json",
    ],
)
def test_an_index_may_only_name_files_of_its_type_in_its_folder(shard, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for outside in (tmp_path / "outside.safetensors", folder / "pytorch_model.bin"):
        save_file({"b": torch.ones(1)}, outside)
    write_shards(folder, "model", ".safetensors", {"b": shard})
    with pytest.raises(CheckpointError, match="file in the same folder"):
        read_weights(folder)


def test_the_error_names_the_missing_shard(tmp_path):
    write_shards(tmp_path, "model", ".safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"model-00002-of-00002\.safetensors, which does not exist"
    ):
        read_weights(tmp_path)


def test_a_key_missing_from_its_shard_is_reported(tmp_path):
    write_shards(tmp_path, "model", ".safetensors", {"d": "model-00001-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"lacks keys that .* assigns to it: d$"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}']
)
def test_an_index_without_a_map_is_refused(text, tmp_path):
    Path(tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        read_weights(tmp_path)


def test_written_weights_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_weights(tmp_path, {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
