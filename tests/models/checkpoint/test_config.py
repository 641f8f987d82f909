import json
from typing import get_args

import pytest
import transformers

from models.checkpoint.config import Configuration, document_of, parse
from models.errors import CheckpointError
from models.registry import ARCHITECTURES, ProblemType, architecture_named
from models.segformer import SegformerConfig
from models.vit import ViTConfig
from models.vit_segmenter import ViTSegmenterConfig

TWO = {"0": "cat", "1": "dog"}
VIT = {"model_type": "vit", "id2label": TWO}
OPTIONS = {"model_type": "patchserve_vit", "id2label": TWO}
SEGFORMER = {"model_type": "segformer", "id2label": TWO}
REFERENCES = {
    "vit": transformers.ViTConfig,
    "deit": transformers.DeiTConfig,
    "vit_msn": transformers.ViTMSNConfig,
    "siglip": transformers.SiglipConfig,
    "segformer": transformers.SegformerConfig,
}


THREE_STAGES = SegformerConfig(
    depths=(1, 2, 3),
    hidden_sizes=(8, 16, 32),
    num_heads=(1, 2, 4),
    sr_ratios=(4, 2, 1),
    patch_sizes=(7, 3, 3),
    strides=(4, 2, 2),
    mlp_ratios=(2, 2, 2),
    drop_path=0.2,
    num_labels=2,
)
KNOWN = [architecture for architecture in ARCHITECTURES if architecture.model_type in REFERENCES]


@pytest.mark.parametrize("architecture", KNOWN, ids=lambda a: a.name)
def test_missing_fields_have_the_defaults_of_the_reference(architecture):
    complete = json.loads(REFERENCES[architecture.model_type]().to_json_string(use_diff=False))
    ours = parse({"architectures": [architecture.name], "model_type": architecture.model_type})
    theirs = parse(complete | {"architectures": [architecture.name]})
    assert ours.sizes == theirs.sizes
    assert ours.labels == theirs.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (
            "ViTForImageClassification",
            ViTConfig(image_size=(96, 64), patch_size=8, hidden_act="relu", num_labels=2),
        ),
        (
            "ViTForImageClassification",
            ViTConfig(qkv_bias=False, layer_norm_eps=1e-6, dropout=0.1, num_labels=2),
        ),
        (
            "DeiTForImageClassificationWithTeacher",
            ViTConfig(distillation_token=True, distillation_head=True, num_labels=2),
        ),
        ("ViTMSNForImageClassification", ViTConfig(layer_norm_eps=1e-3, num_labels=2)),
        (
            "SiglipForImageClassification",
            ViTConfig(pooling="mean", attention_dropout=0.1, hidden_act="relu", num_labels=2),
        ),
        (
            "PatchserveViT",
            ViTConfig(pooling="mean", attention="axial", positions="sinusoidal_2d", num_labels=2),
        ),
        (
            "PatchserveViT",
            ViTConfig(patch_embedding="linear", patch_order="channels_last", num_labels=2),
        ),
        ("PatchserveViT", ViTConfig(num_heads=5, head_dim=48, num_labels=2)),
        ("PatchserveViTSegmenter", ViTSegmenterConfig(dropout=0.3, num_labels=2)),
        ("PatchserveViTSegmenter", ViTSegmenterConfig(head_dim=48, num_labels=2)),
        ("SegformerForSemanticSegmentation", THREE_STAGES),
        ("SegformerForImageClassification", THREE_STAGES),
    ],
)
@pytest.mark.parametrize("problem_type", get_args(ProblemType))
def test_a_document_is_read_back_as_it_was_written_here_and_by_the_reference(
    name, sizes, problem_type
):
    architecture = architecture_named([name], None)
    written = Configuration(architecture, sizes, ("a b", "ü"), problem_type)
    document = json.loads(json.dumps(document_of(written)))
    assert parse(document) == written
    if architecture in KNOWN:
        theirs = REFERENCES[document["model_type"]].from_dict(document)
        assert theirs.id2label == {0: "a b", 1: "ü"}
        assert parse(json.loads(theirs.to_json_string(use_diff=False))) == written


@pytest.mark.parametrize("model_type", ["vit", "deit", "segformer"])
def test_architectures_of_transformers_have_no_options_of_patchserve(model_type):
    for architecture in ARCHITECTURES:
        own = set(architecture.fields) & {"pooling", "positions", "attention"}
        assert not own or architecture.model_type != model_type


def test_labels_are_ordered_by_index():
    labels = {str(i): f"label {i}" for i in reversed(range(12))}
    assert parse({"model_type": "vit", "id2label": labels}).labels[10:] == ("label 10", "label 11")


def test_labels_are_not_stripped():
    assert parse({"model_type": "vit", "id2label": {"0": "bed ", "1": ""}}).labels == ("bed ", "")


def test_without_id2label_num_labels_gives_numbered_labels():
    parsed = parse({"model_type": "vit", "num_labels": 3})
    assert parsed.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert parsed.sizes.num_labels == 3


@pytest.mark.parametrize("problem_type", [*get_args(ProblemType), None])
def test_the_problem_type_is_read(problem_type):
    expected = problem_type or "single_label_classification"
    assert parse(VIT | {"problem_type": problem_type}).problem_type == expected


def test_an_unknown_problem_type_is_refused_by_name():
    with pytest.raises(CheckpointError, match="problem_type is 'ranking', not one of single_label"):
        parse(VIT | {"problem_type": "ranking"})


def test_unknown_fields_are_ignored():
    assert parse(SEGFORMER | {"downsampling_rates": [1, 4, 8, 16]}) == parse(SEGFORMER)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (VIT | {"id2label": {"0": "a", "2": "b"}}, "does not number its 2 labels from 0"),
        (VIT | {"id2label": {"1": "a"}}, "does not number its 1 labels from 0"),
        (VIT | {"id2label": {"0": "a", "00": "b"}}, "does not number its 2 labels"),
        (VIT | {"id2label": {"zero": "a"}}, "does not number"),
        (VIT | {"id2label": {"-1": "a"}}, "does not number"),
        (VIT | {"id2label": "cat"}, "id2label is 'cat', not a JSON object from indices"),
        (VIT | {"id2label": {"0": None}}, "id2label is None, not the text of a name"),
        (VIT | {"id2label": {"0": ["cat"]}}, r"id2label is \['cat'\], not the text of a name"),
        (VIT | {"id2label": [["cat"]]}, r"id2label is \['cat'\], not the text of a name"),
        (VIT | {"id2label": {"0": "\ud800"}}, "not the text of a name"),
        ({"model_type": "vit", "label2id": ["cat"]}, "label2id is .*, not a JSON object from"),
        ({"model_type": "vit", "label2id": {"a": 0, "b": 0}}, "does not number its 2 labels"),
        ({"model_type": "vit", "label2id": {"a": [0]}}, "does not number"),
        ({"model_type": "vit", "label2id": {"a": True}}, "does not number"),
        ({"model_type": "vit", "label2id": {"a": 1.0}}, "does not number"),
        ({"model_type": "vit", "num_labels": [2]}, r"num_labels is \[2\], not an integer"),
        ({"model_type": "vit", "num_labels": {}}, "num_labels is {}, not an integer"),
        ({"model_type": "vit", "num_labels": True}, "num_labels is True, not an integer"),
        ({"model_type": "vit", "num_labels": 0}, "num_labels is 0"),
        (VIT | {"num_channels": 0}, "num_channels is 0, not an integer from 1 to 1024"),
        (VIT | {"num_channels": [3]}, r"num_channels is \[3\], not an integer"),
        (SEGFORMER | {"num_channels": None}, "num_channels is None, not an integer"),
        (VIT | {"hidden_size": "768"}, "hidden_size is '768'"),
        (VIT | {"hidden_size": 0}, "hidden_size is 0"),
        (VIT | {"hidden_size": 2**40}, "hidden_size is 1099511627776"),
        (VIT | {"num_hidden_layers": True}, "num_hidden_layers is True"),
        (VIT | {"num_hidden_layers": 3000}, "num_hidden_layers is 3000, not .* from 1 to 256"),
        (VIT | {"hidden_size": 10**6}, "hidden_size is 1000000, not .* from 1 to 16384"),
        (VIT | {"intermediate_size": 10**6}, "intermediate_size is 1000000"),
        (VIT | {"image_size": 10**6}, "image_size is 1000000, not .* from 1 to 8192"),
        (VIT | {"patch_size": 10**6}, "patch_size is 1000000"),
        (VIT | {"num_attention_heads": 10**6}, "num_attention_heads is 1000000"),
        ({"model_type": "vit", "num_labels": 10**8}, "num_labels is 100000000"),
        (VIT | {"image_size": [224] * 10**6}, r"image_size is \[224, .{,40}\.\.\.\], not a list"),
        (SEGFORMER | {"depths": [1000, 2, 2, 2]}, "depths is 1000, not an integer from 1 to 256"),
        (
            SEGFORMER | {"depths": [100] * 4},
            r"depths is \[100, .*\], not 256 layers or fewer",
        ),
        (SEGFORMER | {"depths": [1] * 100}, "depths is .*, not a list of 1 to 16 integers"),
        (OPTIONS | {"patch_order": "channels_last"}, "needs linear or normalized patches"),
        (OPTIONS | {"patch_order": ["channels_last"]}, "patch_order is .*, not a value like"),
        (OPTIONS | {"head_dim": 1025}, "head_dim is 1025, not an integer from 1 to 1024"),
        (OPTIONS | {"head_dim": [64]}, r"head_dim is \[64\], not an integer"),
        (OPTIONS | {"head_dim": 64.0}, "head_dim is 64.0, not an integer"),
        (VIT | {"num_attention_heads": 7}, "768 is not a multiple of 7 heads"),
        (VIT | {"image_size": [224, 224, 3]}, "image_size is .*, not a list of 2 integers"),
        (VIT | {"image_size": "224"}, "image_size is '224'"),
        (VIT | {"patch_size": [16, 8]}, r"patch_size is \[16, 8\]"),
        (VIT | {"patch_size": 500}, "patch of 500 px exceeds the image"),
        (VIT | {"qkv_bias": 1}, "qkv_bias is 1"),
        (VIT | {"hidden_act": None}, "hidden_act is None"),
        (VIT | {"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is 1.5"),
        (VIT | {"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
        (SEGFORMER | {"depths": 2}, "depths is 2, not a list"),
        (SEGFORMER | {"depths": [2, 2, 2]}, "not every field has 3 stages"),
        (SEGFORMER | {"sr_ratios": [8, 4, 2, 0]}, "sr_ratios is 0"),
        (SEGFORMER | {"num_attention_heads": [3, 2, 5, 8]}, "32 is not a multiple of 3 heads"),
    ],
)
def test_the_error_names_the_invalid_value(document, message):
    with pytest.raises(CheckpointError, match=message):
        parse(document)


def test_more_labels_than_the_limit_are_refused():
    labels = {str(index): "" for index in range(2**17 + 1)}
    with pytest.raises(CheckpointError, match="num_labels is 131073, not an integer from 1 to"):
        parse({"model_type": "vit", "id2label": labels})
