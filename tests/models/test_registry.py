import re
from collections import defaultdict

import pytest
import torch

from models.errors import CheckpointError
from models.registry import ARCHITECTURES, architecture_named, architecture_of
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

OWN = defaultdict(  # transformers cannot load it
    dict,
    PatchserveViT={"head": "mlp"},
    Dinov2WithRegistersForImageClassification={"num_registers": 4},
)
SAVED_AS = {"ViTMSNForImageClassification": "ViTForImageClassification"}  # the same network


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_an_architecture_is_found_by_name_and_by_network(architecture):
    name = architecture.name
    assert architecture_named([name], architecture.model_type) is architecture
    assert architecture_named([architecture.name], None) is architecture
    with torch.device("meta"):
        network = architecture.network(architecture.config(**architecture.fixed | OWN[name]))
    assert architecture_of(network).name == SAVED_AS.get(name, name)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("vit", "ViTForImageClassification"),
        ("deit", "DeiTForImageClassification"),
        ("vit_msn", "ViTMSNForImageClassification"),
        ("siglip", "SiglipForImageClassification"),
        ("dinov2", "Dinov2ForImageClassification"),
        ("dinov2_with_registers", "Dinov2WithRegistersForImageClassification"),
        ("segformer", "SegformerForSemanticSegmentation"),
        ("patchserve_vit", "PatchserveViT"),
        ("patchserve_vit_segmenter", "PatchserveViTSegmenter"),
    ],
)
@pytest.mark.parametrize("names", [None, []])
def test_without_an_architecture_the_model_type_decides(names, model_type, name):
    assert architecture_named(names, model_type).name == name


@pytest.mark.parametrize(
    ("names", "model_type"),
    [
        (["ViTModel"], "vit"),
        (["SegformerForImageClassification"], "vit"),
        (["BeitForImageClassification"], "beit"),
        (["ViTForImageClassification"], "deit"),
        (["SiglipModel"], "siglip"),
        (["Siglip2ForImageClassification"], "siglip2"),
        (None, "resnet"),
        (None, []),
        (None, None),
        ("ViTForImageClassification", None),
        ([{}], "vit"),
    ],
)
def test_unsupported_architectures_are_refused_with_the_supported_ones(names, model_type):
    with pytest.raises(CheckpointError, match=re.escape(repr(model_type))) as caught:
        architecture_named(names, model_type)
    for architecture in ARCHITECTURES:
        assert architecture.name in str(caught.value)


def test_the_defaults_are_b16_and_b0():
    with torch.device("meta"):
        assert architecture_of(ViT(ViTConfig())).name == "ViTForImageClassification"
        segmenter = architecture_of(Segformer(SegformerConfig()))
    assert segmenter.name == "SegformerForSemanticSegmentation"
