"""The labels of a network: from config.json, from files of labels, or numbered with a warning."""

import json
import shutil

import pytest
import torch
import transformers

from models.checkpoint import Checkpoint, CheckpointError, LoadOptions, load, save
from models.checkpoint.labels import MAX_LABELS, labels_in, labels_of, read_labels
from models.preprocessing import Preprocessing
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")
SIZES = {"hidden_size": 24, "num_layers": 1, "num_heads": 3, "mlp_size": 32, "patch_size": 8}


@pytest.fixture
def folder(tmp_path):
    """A classifier with three labels."""
    network = ViT(ViTConfig(image_size=(32, 32), num_labels=3, **SIZES))
    labels, preprocessing = ("a", "b", "c"), Preprocessing(size=(32, 32))
    save(Checkpoint(network, labels, preprocessing, "classify"), tmp_path / "vit")
    return tmp_path / "vit"


def change(folder, **fields):
    """Replace the labels in config.json."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    del document["id2label"], document["label2id"]
    path.write_text(json.dumps(document | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"id2label": {"0": "cat", "1": "dog", "2": "cow"}},
        {"id2label": {"2": "cow", "00": "cat", "01": "dog"}},
        {"id2label": {"LABEL_1": "dog", "LABEL_0": "cat", "LABEL_2": "cow"}},
        {"id2label": ["cat", "dog", "cow"]},
        {"label2id": {"dog": 1, "cat": 0, "cow": 2}},
        {"label2id": {"dog": "1", "cat": "00", "cow": "2"}},
        {"label2id": {"dog": 1, "cat": 0, "cow": 2}, "id2label": None, "num_labels": None},
        {"label2id": {"dog": 1, "cat": 0, "cow": 2}, "id2label": {}, "num_labels": 3},
        {"id2label": ["cat", "dog", "cow"], "label2id": {"other": 0}},
    ],
)
def test_every_spelling_of_the_labels_is_read(folder, fields):
    change(folder, **fields)
    loaded = load(folder)
    assert loaded.labels == ("cat", "dog", "cow")
    assert loaded.warnings == ()
    assert loaded.network.config.num_labels == 3


def test_integers_as_names_become_digits():
    assert labels_of({"id2label": {"0": 7, "1": 8}}).names == ("7", "8")


def test_without_names_the_outputs_are_numbered_with_a_warning(folder):
    change(folder)
    loaded = load(folder)
    assert loaded.labels == NUMBERED
    assert loaded.warnings == (
        "the labels are numbered from LABEL_0, because no file names them; write them to "
        "labels.txt beside the weights, or give a labels file with one label a line",
    )


@pytest.mark.parametrize("num_labels", [1, 2, 5])
def test_labels_are_those_of_the_reference_if_num_labels_contradicts_id2label(num_labels):
    document = {"id2label": {"0": "cat", "1": "dog"}, "num_labels": num_labels}
    theirs = transformers.ViTConfig.from_dict(json.loads(json.dumps(document)))
    ours = labels_of(document, outputs=num_labels)
    assert ours.names == tuple(theirs.id2label.values())
    assert ours == labels_of(document)  # if the head is not found
    assert bool(ours.warnings) == (num_labels != 2)


def test_names_that_do_not_fit_the_head_are_replaced_with_a_warning(folder):
    change(folder, id2label={"0": "cat", "1": "dog"})
    loaded = load(folder)
    assert loaded.labels == NUMBERED
    (warning,) = loaded.warnings
    assert "because config.json names 2 of 3 outputs; correct config.json, or give" in warning


def test_a_number_of_labels_that_is_not_the_heads_is_a_warning(folder):
    change(folder, id2label=["cat", "dog", "cow"], num_labels=12)
    loaded = load(folder)
    assert loaded.labels == ("cat", "dog", "cow")
    assert loaded.warnings == (
        "num_labels is 12, but the network has 3 outputs, which decide; correct num_labels in "
        "config.json",
    )


def test_labels_beside_the_weights_are_read_if_config_json_has_none(folder):
    (folder / "labels.txt").write_bytes("\ufeffcat\r\n grün \r\ncow\r\n\r\n\n".encode())
    assert load(folder).labels == ("a", "b", "c")
    change(folder)
    loaded = load(folder)
    assert loaded.labels == ("cat", "grün", "cow")
    assert loaded.warnings == ()
    (folder / "labels.txt").write_text("cat\ndog\n")
    assert load(folder).labels == NUMBERED
    assert "labels.txt names 2 of 3 outputs" in load(folder).warnings[0]


def test_labels_beside_a_file_of_weights_are_read(originals_of_torchvision, tmp_path):
    shutil.copy(originals_of_torchvision, tmp_path / "model.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne")
    assert load(tmp_path / "model.pth").labels == ("a", "b", "c", "d", "e")


@pytest.fixture
def originals_of_torchvision(tmp_path):
    """A small file of weights with the names of torchvision."""
    width, mlp = 768, 8
    layer = "encoder.layers.encoder_layer_0"
    shapes = {
        "class_token": (1, 1, width),
        "conv_proj.weight": (width, 3, 8, 8),
        "conv_proj.bias": (width,),
        "encoder.pos_embedding": (1, 5, width),
        f"{layer}.self_attention.in_proj_weight": (3 * width, width),
        f"{layer}.self_attention.in_proj_bias": (3 * width,),
        f"{layer}.self_attention.out_proj.weight": (width, width),
        f"{layer}.self_attention.out_proj.bias": (width,),
        f"{layer}.mlp.0.weight": (mlp, width),
        f"{layer}.mlp.0.bias": (mlp,),
        f"{layer}.mlp.3.weight": (width, mlp),
        f"{layer}.mlp.3.bias": (width,),
        "heads.head.weight": (5, width),
        "heads.head.bias": (5,),
    }
    for norm in (f"{layer}.ln_1", f"{layer}.ln_2", "encoder.ln"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


@pytest.mark.parametrize(
    "fields", [{}, {"id2label": {"0": "cat", "7": "dog"}}, {"id2label": "broken", "num_labels": 8}]
)
def test_a_labels_file_of_the_user_wins_over_everything(folder, tmp_path, fields):
    (folder / "labels.txt").write_text("not\na\nlabel\n")
    change(folder, **fields)
    (tmp_path / "mine.txt").write_text("one\ntwo\nthree\n")
    loaded = load(folder, LoadOptions(labels_file=tmp_path / "mine.txt"))
    assert loaded.labels == ("one", "two", "three")
    assert loaded.warnings == ()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_labels_file_needs_a_label_for_each_output(folder, tmp_path, count):
    (tmp_path / "mine.txt").write_text("label\n" * count)
    message = rf"mine\.txt has {count} labels for 3 outputs of the network"
    with pytest.raises(CheckpointError, match=message):
        load(folder, LoadOptions(labels_file=tmp_path / "mine.txt"))


def test_a_binary_segmenter_takes_the_one_label_of_a_file(tmp_path):
    network = Segformer(SegformerConfig(depths=(1, 1, 1, 1), num_labels=1))
    save(Checkpoint(network, ("LABEL_0",), Preprocessing(), "segment"), tmp_path / "segformer")
    (tmp_path / "mine.txt").write_text("road\n")
    options = LoadOptions(labels_file=tmp_path / "mine.txt")
    loaded = load(tmp_path / "segformer", options)
    assert loaded.labels == ("background", "road")
    assert loaded.network.config.num_labels == 2
    change(tmp_path / "segformer")
    loaded = load(tmp_path / "segformer")
    assert loaded.labels == ("background", "LABEL_0")
    assert "no file names them" in loaded.warnings[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 has no label"),
        (b"cat\n\ndog\n", "line 2 has no label"),
        (b"\n\ncat", "line 1 has no label"),
        (b"cat\n\xff\n", "cannot be read as UTF-8"),
        (b"x" * (10**6 + 1), "has more than 1000000 bytes"),
    ],
)
def test_a_labels_file_that_is_not_a_list_of_labels_is_refused(tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"labels\.txt.*{message}"):
        read_labels(tmp_path / "labels.txt")


def test_a_labels_file_has_a_limit_on_its_labels(tmp_path):
    (tmp_path / "labels.txt").write_text("x\n" * (MAX_LABELS + 1))
    with pytest.raises(CheckpointError, match="131073, not an integer from 1 to 131072"):
        labels_in(tmp_path / "labels.txt", None)


def test_a_labels_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"the labels file .*no\.txt does not exist"):
        labels_in(tmp_path / "no.txt", 2)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        labels_in(tmp_path, 2)


def test_strict_loading_refuses_every_assumption(folder):
    assert load(folder, LoadOptions(strict=True)).labels == ("a", "b", "c")
    change(folder)
    (folder / "preprocessor_config.json").unlink()
    warnings = load(folder).warnings
    assert len(warnings) == 3
    with pytest.raises(CheckpointError, match=r"^vit leaves open what strict loading") as caught:
        load(folder, LoadOptions(strict=True))
    for number, warning in enumerate(warnings, 1):
        assert f"({number}) {warning}." in str(caught.value)
        assert ";" in warning  # then what to do


def test_an_architecture_is_for_a_file_of_weights_only(folder):
    with pytest.raises(CheckpointError, match="'vit_b_16' is given, but only for a file"):
        load(folder, LoadOptions(arch="vit_b_16"))
