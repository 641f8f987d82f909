"""The graphs on disk: made once, named after all that decides them, whole or absent."""

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
def graph():
    return convert(ViT(CONFIG).eval(), (16, 16), None)


def never():
    raise AssertionError("the graph is there already")


def test_a_kept_graph_is_not_made_again(network, tmp_path, monkeypatch):
    logits = OpenVINOForm(network, folder=tmp_path)(PIXELS)
    monkeypatch.setattr("models.runtimes.openvino.form.convert", never)
    assert torch.equal(OpenVINOForm(network, folder=tmp_path)(PIXELS), logits)


@torch.no_grad()
def test_the_name_says_weights_sizes_options_and_preprocessing(network):
    def key(size=(16, 16), normalization=None):
        return store.key_of(network, size, normalization)

    before = key()
    assert key() == before
    assert len({before, key((16, 24)), key(normalization=Preprocessing())}) == 3
    network.head.bias += 1
    assert key() != before
    twin = ViT(ViTConfig(**{**SIDES, "num_heads": 2}, image_size=(16, 16), patch_size=8)).eval()
    twin.load_state_dict(network.state_dict())
    assert store.key_of(twin, (16, 16), None) != key()


def test_whoever_is_second_keeps_what_the_first_wrote(graph, tmp_path):
    store.keep(graph, tmp_path / "key")
    before = (tmp_path / "key" / store.GRAPH).stat().st_mtime_ns
    store.keep(graph, tmp_path / "key")
    assert (tmp_path / "key" / store.GRAPH).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    store.stored(tmp_path, "key", never)


def test_without_a_place_to_write_the_graph_is_made_and_not_kept(graph, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert store.stored(tmp_path / "file", "key", lambda: graph) is graph
    assert "not kept" in caplog.text


def test_a_graph_that_cannot_be_saved_is_no_half_of_one(graph, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("no space left")

    monkeypatch.setattr(store.import_openvino(), "save_model", full)
    with pytest.raises(OSError, match="no space left"):
        store.keep(graph, tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_take_its_name_is_an_error(graph, tmp_path):
    (tmp_path / "key").write_text("in the way")
    with pytest.raises(OSError, match="key"):
        store.keep(graph, tmp_path / "key")


@pytest.mark.parametrize("named", ["", "relative"])
def test_graphs_are_in_the_user_s_cache(named, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.default_folder() == tmp_path / "patchserve" / "openvino"
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.default_folder() == tmp_path / ".cache" / "patchserve" / "openvino"
