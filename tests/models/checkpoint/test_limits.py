"""What real checkpoints ask for is accepted; a small file that asks for much is refused."""

import json
from dataclasses import replace

import pytest
import torch

from models.checkpoint import CheckpointError, load
from models.checkpoint.config import Configuration, document_of, parse
from models.checkpoint.limits import check_input, check_parameters
from models.checkpoint.parameter_names import translate
from models.registry import architecture_of, segformer_config, vit_config
from models.segformer import Segformer
from models.vit import ViT
from models.vit_segmenter import ViTSegmenterConfig

MANY = 21_843  # labels of ImageNet-21k


@pytest.mark.parametrize(
    ("network", "config", "size"),
    [
        (ViT, vit_config("H/14", num_labels=MANY), (518, 518)),
        (ViT, vit_config("L/16", num_labels=MANY, image_size=(512, 512)), (512, 512)),
        (Segformer, segformer_config("B5", num_labels=150), (2048, 2048)),
        (Segformer, segformer_config("B5", num_labels=MANY), (512, 512)),
    ],
)
def test_published_networks_are_accepted(network, config, size):
    with torch.device("meta"):
        built = network(config)
    parameters = sum(each.numel() for each in built.parameters())
    check_parameters(built, 2 * parameters)  # half precision
    check_input(config, size)
    labels = tuple(f"label {index}" for index in range(config.num_labels))
    document = json.dumps(document_of(Configuration(architecture_of(built), config, labels)))
    assert parse(json.loads(document)).sizes == config


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (vit_config("Ti/1", image_size=(224, 224)), (4096, 4096), "16777216 tokens, each with"),
        (replace(segformer_config("B0"), sr_ratios=(1, 1, 1, 1)), (2048, 2048), "262144 tokens"),
        (vit_config("Ti/16", num_heads=1024, head_dim=1024), (1024, 1024), "tokens of 1048576"),
        (
            segformer_config("B0", num_labels=10_000, aligned_upsampling=True),
            (512, 512),
            "16384 tokens of 160000 numbers",
        ),
        (ViTSegmenterConfig(num_labels=10_000), (1024, 1024), "4096 tokens of 2560000 numbers"),
    ],
)
def test_an_input_that_takes_too_much_work_or_memory_is_refused(config, size, message):
    with pytest.raises(
        CheckpointError, match=f"an image of {size[1]} x {size[0]} pixels.*{message}"
    ):
        check_input(config, size)


def test_axial_attention_is_counted_by_rows_and_columns():
    axial = {"attention": "axial", "pooling": "mean"}
    check_input(vit_config("Ti/1", image_size=(224, 224), **axial), (512, 512))


def test_a_network_larger_than_its_weights_is_not_allocated(tmp_path):
    sizes = {"hidden_size": 16_384, "num_attention_heads": 16, "intermediate_size": 65_536}
    document = {"model_type": "vit", "num_hidden_layers": 1} | sizes
    with torch.device("meta"):
        parameters = ViT(parse(document).sizes).state_dict()
    theirs = {
        translate(name, "ViTForImageClassification")[0]: torch.zeros(1).expand(tensor.shape)
        for name, tensor in parameters.items()
    }
    torch.save(theirs, tmp_path / "pytorch_model.bin")  # a number for each tensor
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"network of \d+ parameters, but the weight files"):
        load(tmp_path)


def test_layers_without_weights_are_not_allocated(tmp_path):
    document = {"model_type": "vit", "num_hidden_layers": 256, "num_labels": 2**17}
    (tmp_path / "config.json").write_text(json.dumps(document))
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing keys: .* and \d+ more"):
        load(tmp_path)
