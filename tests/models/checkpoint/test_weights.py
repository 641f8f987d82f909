import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.checkpoint.weights import NAMES, read_weights, write_weights
from models.errors import CheckpointError

TENSORS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(7),
    "c": torch.ones(2).half(),
}


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
def test_one_file_is_read(name, tmp_path):
    write(tmp_path / name, TENSORS)
    assert_read(tmp_path)


def test_a_pickle_of_before_the_zip_format_is_read(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    assert_read(tmp_path)


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_shards_are_read(stem, suffix, tmp_path):
    write_shards(tmp_path, stem, suffix)
    assert_read(tmp_path)


def test_the_first_of_the_known_files_is_read(tmp_path):
    for name in reversed(NAMES):
        if name.endswith(".json"):
            stem, suffix = name.split(".")[:2]
            write_shards(tmp_path, stem, f".{suffix}")
            assert set(read_weights(tmp_path)) == set(TENSORS)
        else:
            write(tmp_path / name, {name: torch.zeros(1)})
            assert set(read_weights(tmp_path)) == {name}


def test_what_was_written_is_read_and_marked_as_pytorchs(tmp_path):
    strided = {"t": torch.arange(6.0).view(2, 3).t().requires_grad_()}
    write_weights(tmp_path, strided)
    assert torch.equal(read_weights(tmp_path)["t"], strided["t"])
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"looked for model\.safetensors, "):
        read_weights(tmp_path)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped, tmp_path):
    torch.save(
        {"a": Bomb(tmp_path / "boom")},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read"):
        read_weights(tmp_path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_damaged_file_is_refused_by_name(name, damage, tmp_path):
    path = tmp_path / name
    write(path, TENSORS)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[:-100], "noise": b"\x99" * 500}[damage])
    with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
        read_weights(tmp_path)


def test_a_placeholder_of_git_lfs_is_called_that(tmp_path):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "model.safetensors").write_text(text)
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(1)], "no state dict"),
        ({"model": {"a": torch.ones(1)}}, "more than tensors: model"),
        ({0: torch.ones(1)}, "more than tensors: 0"),
    ],
)
def test_a_pickle_of_something_else_is_refused(content, complaint, tmp_path):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=complaint):
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
def test_an_index_names_only_files_of_its_kind_beside_it(shard, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for outside in (tmp_path / "outside.safetensors", folder / "pytorch_model.bin"):
        save_file({"b": torch.ones(1)}, outside)
    write_shards(folder, "model", ".safetensors", {"b": shard})
    with pytest.raises(CheckpointError, match="file beside it"):
        read_weights(folder)


def test_a_shard_that_is_missing_is_named(tmp_path):
    write_shards(tmp_path, "model", ".safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"model-00002-of-00002\.safetensors, which is missing"
    ):
        read_weights(tmp_path)


def test_a_key_that_the_index_promises_must_be_there(tmp_path):
    write_shards(tmp_path, "model", ".safetensors", {"d": "model-00001-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"lacks .* promises: d$"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}']
)
def test_an_index_without_a_map_is_refused(text, tmp_path):
    Path(tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        read_weights(tmp_path)


def test_what_is_written_can_be_read_by_whom_the_umask_admits(tmp_path):
    before = os.umask(0o022)
    try:
        write_weights(tmp_path, {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
