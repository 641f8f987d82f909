from dataclasses import replace

import pytest
import torch

from models.checkpoint import Checkpoint, CheckpointError
from models.layers.positions import resample
from models.preprocessing import Preprocessing
from models.training.fitting.initialize import from_checkpoint, from_scratch, one_size
from models.training.fitting.networks import network_named, preprocessing_for, task_of
from models.training.fitting.objective import Teacher
from models.vit import ViT

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
SMALL = {"depths": "1,1,1,1", "hidden_sizes": "8,8,8,8", "num_heads": "1,1,1,1"}
OLD, NEW = ("a", "b"), ("x", "y", "z")


def checkpoint_of(name: str, **options: str) -> Checkpoint:
    torch.manual_seed(0)
    options = (SMALL if "-b" in name else TINY) | options
    network = network_named(name, num_labels=2, image_size=32, options=options)
    preprocessing = preprocessing_for(name, 32, as_is=False)
    return Checkpoint(network.eval(), OLD, preprocessing, task_of(name), name=name)


def started(checkpoint: Checkpoint, labels=NEW, task=None, image_size=None):
    return from_checkpoint(checkpoint, task or checkpoint.task, labels, image_size=image_size)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("vit-ti/8", {"head.weight", "head.bias"}),
        (
            "deit-ti/8",
            {f"{h}.{p}" for h in ("head", "distillation_head") for p in ("weight", "bias")},
        ),
        ("vit-segmenter", {"head.weight", "head.bias"}),
        ("segformer-b0", {"decoder.head.weight", "decoder.head.bias"}),
        ("mit-b0", {"head.weight", "head.bias"}),
    ],
)
def test_the_body_is_copied_and_the_head_is_new(name, heads):
    checkpoint = checkpoint_of(name)
    start = started(checkpoint)
    assert start.fresh == heads
    old, new = checkpoint.network.state_dict(), start.network.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in new.keys() - heads)
    assert start.network.config.num_labels == 3
    assert start.about == f"{name}, with a new head"


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_new_head_predicts_all_labels_equally(head):
    start = started(checkpoint_of("vit-ti/8", head=head))
    assert not start.network(torch.rand(2, 3, 32, 32)).any()
    assert (len(start.fresh) == 4) is (head == "mlp")


def test_the_head_is_kept_for_the_same_labels():
    checkpoint = checkpoint_of("vit-ti/8")
    start = started(checkpoint, labels=OLD)
    assert start.fresh == frozenset()
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(start.network.eval()(pixels), checkpoint.network(pixels))
    assert start.about == "vit-ti/8, trained further"


@pytest.mark.parametrize(
    ("name", "prefix"), [("vit-ti/8", 1), ("deit-ti/8", 2), ("vit-segmenter", 0)]
)
def test_positions_are_resampled_for_another_size(name, prefix):
    checkpoint = checkpoint_of(name)
    start = started(checkpoint, image_size=64)
    old, new = checkpoint.network, start.network
    grids = old.config.grid, new.config.grid
    assert start.preprocessing.size == new.config.image_size == (64, 64)
    assert torch.equal(new.positions[:, :prefix], old.positions[:, :prefix])
    assert torch.equal(new.positions[:, prefix:], resample(old.positions[:, prefix:], *grids))


def test_relative_positions_are_resampled_as_the_network_resamples_them():
    checkpoint = checkpoint_of("vit-ti/8", positions="relative")
    with torch.no_grad():
        checkpoint.network.relative_bias.table.normal_()
    start = started(checkpoint, labels=OLD, image_size=48)
    assert start.network.relative_bias.table.shape == (3, 11, 11)
    pixels = torch.rand(1, 3, 48, 48)
    assert torch.allclose(start.network(pixels), checkpoint.network(pixels), atol=1e-6)


def test_the_encoder_of_a_segformer_can_start_the_other_task():
    classifier = checkpoint_of("mit-b0")
    start = started(classifier, task="segment")
    assert start.network(torch.rand(1, 3, 32, 32)).shape == (1, 3, 8, 8)
    assert all(name.startswith("decoder.") for name in start.fresh)
    old, new = classifier.network.encoder.state_dict(), start.network.encoder.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in new)
    back = started(checkpoint_of("segformer-b0"), task="classify")
    assert back.fresh == {"head.weight", "head.bias"}


def test_other_networks_cannot_start_the_other_task():
    with pytest.raises(ValueError, match="vit-ti/8 is classify, the task of the data segment"):
        started(checkpoint_of("vit-ti/8"), task="segment")


def test_a_network_for_gray_images_is_refused():
    rgb = checkpoint_of("vit-ti/8")
    gray = replace(rgb, network=ViT(replace(rgb.network.config, num_channels=1)))
    with pytest.raises(CheckpointError, match="vit-ti/8 takes images of num_channels 1"):
        started(gray)
    with pytest.raises(CheckpointError, match="vit-ti/8 takes images of num_channels 1"):
        Teacher(gray, OLD, torch.device("cpu"))


def test_an_image_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="not a multiple of the patch size 8"):
        started(checkpoint_of("vit-ti/8"), image_size=60)
    with pytest.raises(ValueError, match="at least 32"):
        started(checkpoint_of("mit-b0"), image_size=16)


def test_the_preprocessing_gets_a_fixed_size():
    preprocessing = Preprocessing(size=None, shortest_edge=40, longest_edge=90, reduce_labels=True)
    assert one_size(preprocessing, None) == Preprocessing(size=(40, 40))
    assert one_size(preprocessing, 64) == Preprocessing(size=(64, 64))
    cropped = Preprocessing(size=(48, 48), crop_size=(32, 32))
    assert one_size(cropped, None) == cropped
    assert one_size(cropped, 64) == replace(cropped, size=(64, 64), crop_size=None)
    with pytest.raises(ValueError, match="no image size"):
        one_size(Preprocessing(size=None), None)


def test_from_scratch_all_weights_are_fresh_and_the_task_is_that_of_the_data():
    options = {"image_size": 32, "options": TINY, "as_is": False}
    start = from_scratch("vit-ti/8", "classify", NEW, **options)
    assert start.fresh is None
    assert start.network.config.num_labels == 3
    assert "hidden_size 24" in start.about
    with pytest.raises(ValueError, match="vit-ti/8 is classify, the task of the data segment"):
        from_scratch("vit-ti/8", "segment", NEW, **options)
