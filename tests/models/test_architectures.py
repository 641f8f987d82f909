import re

import pytest

from models.architectures import ARCHITECTURES, architecture_for, architecture_named
from models.errors import CheckpointError
from models.segformer import SegformerConfig
from models.vit import ViTConfig


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_an_architecture_is_found_by_its_name_and_from_its_sizes(architecture):
    assert architecture_named([architecture.name], architecture.model_type) is architecture
    assert architecture_named([architecture.name], None) is architecture
    assert architecture_for(architecture.config(**architecture.distillation)) is architecture


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("vit", "ViTForImageClassification"),
        ("deit", "DeiTForImageClassification"),
        ("segformer", "SegformerForSemanticSegmentation"),
    ],
)
@pytest.mark.parametrize("names", [None, []])
def test_the_model_type_decides_where_no_architecture_is_named(names, model_type, name):
    assert architecture_named(names, model_type).name == name


@pytest.mark.parametrize(
    ("names", "model_type"),
    [
        (["ViTModel"], "vit"),
        (["SegformerForImageClassification"], "segformer"),
        (["BeitForImageClassification"], "beit"),
        (["ViTForImageClassification"], "deit"),
        (None, "resnet"),
        (None, None),
        ("ViTForImageClassification", None),
        ([{}], "vit"),
    ],
)
def test_all_others_are_refused_with_what_is_supported(names, model_type):
    with pytest.raises(CheckpointError, match=re.escape(repr(model_type))) as caught:
        architecture_named(names, model_type)
    for architecture in ARCHITECTURES:
        assert architecture.name in str(caught.value)


def test_the_defaults_are_b16_and_b0():
    assert architecture_for(ViTConfig()).name == "ViTForImageClassification"
    assert architecture_for(SegformerConfig()).name == "SegformerForSemanticSegmentation"
