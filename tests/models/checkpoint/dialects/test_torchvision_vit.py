import pytest
import torch

from models import checkpoint
from models.checkpoint import LoadOptions
from models.errors import CheckpointError


@pytest.mark.parametrize("case", ["vit_b", "vit_b-swag", "vit_l"])
def test_a_file_of_torchvision_gives_its_pixels_and_logits(case, originals, assert_equal):
    folder = originals("torchvision_vit") / case
    loaded = checkpoint.load(folder / "model.pth")
    assert_equal(loaded, folder)
    assert loaded.preprocessing_assumed
    assert (
        "the defaults of torchvision for weights trained on ImageNet-1k are assumed"
        in loaded.warnings[0]
    )
    assert loaded.labels == tuple(f"LABEL_{n}" for n in range(5))


def change(originals, tmp_path, **tensors):
    stored = torch.load(originals("torchvision_vit") / "vit_b" / "model.pth", weights_only=True)
    torch.save(stored | tensors, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_the_architecture_must_be_that_of_the_weights(originals):
    file = originals("torchvision_vit") / "vit_b" / "model.pth"
    assert checkpoint.load(file, LoadOptions(arch="vit_b_32")).network.config.num_heads == 12
    with pytest.raises(CheckpointError, match="a vit_b_32 of torchvision, not 'vit_l_16'"):
        checkpoint.load(file, LoadOptions(arch="vit_l_16"))


def test_the_shortest_edge_of_vit_l_16_is_shorter(originals, tmp_path):
    stored = torch.load(originals("torchvision_vit") / "vit_l" / "model.pth", weights_only=True)
    more = {
        "conv_proj.weight": torch.zeros(1024, 3, 16, 16),
        "encoder.pos_embedding": torch.zeros(1, 197, 1024),
    }
    torch.save(stored | more, tmp_path / "model.pth")
    assert checkpoint.load(tmp_path / "model.pth").preprocessing.shortest_edge == 242


def test_a_width_without_known_heads_is_refused(originals, tmp_path):
    file = change(originals, tmp_path, **{"conv_proj.weight": torch.ones(512, 3, 32, 32)})
    with pytest.raises(CheckpointError, match="a width of 768, 1024, 1280, not 512"):
        checkpoint.load(file)


def test_a_file_for_other_channels_is_refused_because_it_has_no_mean(originals, tmp_path):
    file = change(originals, tmp_path, **{"conv_proj.weight": torch.ones(768, 4, 32, 32)})
    with pytest.raises(CheckpointError, match=r"num_channels 4: give a folder .* image_mean"):
        checkpoint.load(file)


def test_positions_that_are_no_square_are_refused(originals, tmp_path):
    file = change(originals, tmp_path, **{"encoder.pos_embedding": torch.ones(1, 51, 768)})
    with pytest.raises(CheckpointError, match="50 patches, which is not a square"):
        checkpoint.load(file)


def test_names_of_no_library_are_refused(tmp_path):
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "model.pth")
    message = "model.pth has tensors with unknown names: layer.weight; known without a config.json"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "model.pth")


def test_a_training_checkpoint_of_torchvision_is_read(originals, tmp_path, assert_equal):
    folder = originals("torchvision_vit") / "vit_b"
    tensors = torch.load(folder / "model.pth", weights_only=True)
    content = {"model": {f"module.{key}": each for key, each in tensors.items()}, "epoch": 3}
    torch.save(content, tmp_path / "last.ckpt")
    loaded = checkpoint.load(tmp_path / "last.ckpt")
    assert_equal(loaded, folder)
    assert loaded.name == "last"
