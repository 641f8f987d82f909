"""The cache of converted models: one conversion, complete keys, atomic writes."""

import logging

import pytest
import torch

from models.preprocessing import Preprocessing
from models.runtimes.openvino import OpenVINOForm, store
from models.runtimes.openvino.conversion import convert
from models.vit import ViT, ViTConfig

SIDES = {"hidden_size": 16, "num_layers": 1, "num_heads": 1, "mlp_size": 16, "num_labels": 3}
CONFIG = ViTConfig(**SIDES, image_size=(16, 16), patch_size=8)
PIXELS = torch.zeros(1, 3, 16, 16)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ViT(CONFIG).eval()


@pytest.fixture(scope="module")
def model():
    return convert(ViT(CONFIG).eval(), (16, 16), None)


def unexpected(*args):
    raise AssertionError("the model is cached already")


def test_a_cached_model_is_not_converted_again(network, tmp_path, monkeypatch):
    logits = OpenVINOForm(network, folder=tmp_path)(PIXELS)
    monkeypatch.setattr("models.runtimes.openvino.form.convert", unexpected)
    assert torch.equal(OpenVINOForm(network, folder=tmp_path)(PIXELS), logits)


@torch.no_grad()
def test_the_key_depends_on_weights_sizes_options_and_preprocessing(network):
    def key(size=(16, 16), normalization=None):
        return store.cache_key(network, size, normalization)

    before = key()
    assert key() == before
    assert len({before, key((16, 24)), key(normalization=Preprocessing())}) == 3
    network.head.bias += 1
    assert key() != before
    twin = ViT(ViTConfig(**{**SIDES, "num_heads": 2}, image_size=(16, 16), patch_size=8)).eval()
    twin.load_state_dict(network.state_dict())
    assert store.cache_key(twin, (16, 16), None) != key()


def test_a_second_writer_keeps_the_model_of_the_first(model, tmp_path):
    store.write(model, tmp_path / "key")
    before = (tmp_path / "key" / store.MODEL_FILE).stat().st_mtime_ns
    store.write(model, tmp_path / "key")
    assert (tmp_path / "key" / store.MODEL_FILE).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    store.cached(tmp_path, "key", unexpected)


@pytest.mark.parametrize("file", ["graph.xml", "graph.bin"])
@pytest.mark.parametrize("damage", ["shortened", "removed"])
def test_a_damaged_model_is_converted_again_and_replaced(model, tmp_path, caplog, file, damage):
    store.write(model, tmp_path / "key")
    path = tmp_path / "key" / file
    if damage == "shortened":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        assert store.cached(tmp_path, "key", lambda: model) is model
    assert "damaged" in caplog.text
    store.cached(tmp_path, "key", unexpected)


def test_in_an_unwritable_folder_the_model_is_converted_and_not_cached(model, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert store.cached(tmp_path / "file", "key", lambda: model) is model
    assert "not cached" in caplog.text


def test_a_failed_write_leaves_no_partial_model(model, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("no space left")

    monkeypatch.setattr(store.import_openvino(), "save_model", full)
    with pytest.raises(OSError, match="no space left"):
        store.write(model, tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_writing_fails_if_a_file_has_the_folders_name(model, tmp_path):
    (tmp_path / "key").write_text("in the way")
    with pytest.raises(OSError, match="key"):
        store.write(model, tmp_path / "key")


@pytest.mark.parametrize("named", ["", "relative"])
def test_the_default_folder_is_in_the_users_cache(named, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.default_folder() == tmp_path / "patchserve" / "openvino"
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.default_folder() == tmp_path / ".cache" / "patchserve" / "openvino"
