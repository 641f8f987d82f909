import pytest
import torch

from models.registry import segformer_config, vit_config
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig


def parameters(kind, config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(config).parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("Ti/16", 5.717),
        ("S/16", 22.051),
        ("B/16", 86.568),
        ("B/32", 88.224),
        ("L/16", 304.327),
        ("L/32", 306.535),
        ("H/14", 632.046),
    ],
)
def test_a_vit_has_as_many_parameters_as_published(name, millions):
    assert round(parameters(ViT, vit_config(name)) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("name", "millions"), [("Ti/16", 5.911), ("S/16", 22.436), ("B/16", 87.338)]
)
def test_a_distilled_deit_has_as_many_parameters_as_published(name, millions):
    config = vit_config(name, distillation_token=True, distillation_head=True)
    assert round(parameters(ViT, config) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("name", "segmenter", "classifier"),
    [
        ("B0", 3.753, 3.576),
        ("B1", 13.716, 13.664),
        ("B2", 27.462, 24.709),
        ("B3", 47.338, 44.585),
        ("B4", 64.108, 61.356),
        ("B5", 84.709, 81.956),
    ],
)
def test_a_segformer_has_as_many_parameters_as_published(name, segmenter, classifier):
    assert round(parameters(Segformer, segformer_config(name)) / 1e6, 3) == segmenter
    config = segformer_config(name, num_labels=1000)
    assert round(parameters(SegformerClassifier, config) / 1e6, 3) == classifier


def test_the_segmenting_vit_has_as_many_parameters_as_the_article():
    assert parameters(ViTSegmenter, ViTSegmenterConfig()) == 86_284_806


def test_the_defaults_are_b16_and_b0_and_fields_may_be_changed():
    assert vit_config("B/16") == ViTConfig()
    assert vit_config("Ti/8", image_size=(96, 96), mlp_size=64).mlp_size == 64
    assert segformer_config("B0", num_labels=7).num_labels == 7


@pytest.mark.parametrize("name", ["X/16", "B", "B/", "B/x", "B/0", "", "vit"])
def test_the_error_for_an_unknown_vit_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"Ti/16, S/16, B/16, L/16, H/16"):
        vit_config(name)


def test_the_error_for_an_unknown_segformer_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'B6'; known: B0, B1, B2, B3, B4, B5"):
        segformer_config("B6")
