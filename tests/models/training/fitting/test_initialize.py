from dataclasses import replace

import pytest
import torch

from models.checkpoint import Checkpoint
from models.layers.positions import resample
from models.preprocessing import Preprocessing
from models.training.fitting.initialize import from_checkpoint, from_nothing, one_size
from models.training.fitting.networks import network_named, preprocessing_for, task_of

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
SMALL = {"depths": "1,1,1,1", "hidden_sizes": "8,8,8,8", "num_heads": "1,1,1,1"}
OLD, NEW = ("a", "b"), ("x", "y", "z")


def made(name: str, **options: str) -> Checkpoint:
    torch.manual_seed(0)
    options = (SMALL if "-b" in name else TINY) | options
    network = network_named(name, num_labels=2, image_size=32, options=options)
    asked = preprocessing_for(name, 32, as_is=False)
    return Checkpoint(network.eval(), OLD, asked, task_of(name), name=name)


def start(checkpoint: Checkpoint, labels=NEW, task=None, image_size=None):
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
def test_the_body_is_kept_and_the_head_is_new(name, heads):
    checkpoint = made(name)
    begun = start(checkpoint)
    assert begun.fresh == heads
    old, new = checkpoint.network.state_dict(), begun.network.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in new.keys() - heads)
    assert begun.network.config.num_labels == 3
    assert begun.about == f"{name}, with a new head"


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_at_first_no_label_is_likelier_than_another(head):
    begun = start(made("vit-ti/8", head=head))
    assert not begun.network(torch.rand(2, 3, 32, 32)).any()
    assert (len(begun.fresh) == 4) is (head == "mlp")


def test_its_own_labels_keep_their_head():
    checkpoint = made("vit-ti/8")
    begun = start(checkpoint, labels=OLD)
    assert begun.fresh == frozenset()
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(begun.network.eval()(pixels), checkpoint.network(pixels))
    assert begun.about == "vit-ti/8, trained further"


@pytest.mark.parametrize(
    ("name", "prefix"), [("vit-ti/8", 1), ("deit-ti/8", 2), ("vit-segmenter", 0)]
)
def test_positions_are_resampled_for_another_size(name, prefix):
    checkpoint = made(name)
    begun = start(checkpoint, image_size=64)
    old, new = checkpoint.network, begun.network
    grids = old.config.grid, new.config.grid
    assert begun.preprocessing.size == new.config.image_size == (64, 64)
    assert torch.equal(new.positions[:, :prefix], old.positions[:, :prefix])
    assert torch.equal(new.positions[:, prefix:], resample(old.positions[:, prefix:], *grids))


def test_relative_positions_are_resampled_as_the_network_would():
    checkpoint = made("vit-ti/8", positions="relative")
    with torch.no_grad():
        checkpoint.network.relative_bias.table.normal_()
    begun = start(checkpoint, labels=OLD, image_size=48)
    assert begun.network.relative_bias.table.shape == (3, 11, 11)
    pixels = torch.rand(1, 3, 48, 48)
    assert torch.allclose(begun.network(pixels), checkpoint.network(pixels), atol=1e-6)


def test_an_encoder_of_segformer_goes_on_to_the_other_task():
    classifier = made("mit-b0")
    begun = start(classifier, task="segment")
    assert begun.network(torch.rand(1, 3, 32, 32)).shape == (1, 3, 8, 8)
    assert all(name.startswith("decoder.") for name in begun.fresh)
    old, new = classifier.network.encoder.state_dict(), begun.network.encoder.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in new)
    back = start(made("segformer-b0"), task="classify")
    assert back.fresh == {"head.weight", "head.bias"}


def test_other_networks_are_of_one_task():
    with pytest.raises(ValueError, match="vit-ti/8 is to classify, the data to segment"):
        start(made("vit-ti/8"), task="segment")


def test_a_size_that_patches_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="no multiple of the patch size 8"):
        start(made("vit-ti/8"), image_size=60)
    with pytest.raises(ValueError, match="at least 32"):
        start(made("mit-b0"), image_size=16)


def test_preprocessing_comes_to_one_size():
    asked = Preprocessing(size=None, shortest_edge=40, longest_edge=90, reduce_labels=True)
    assert one_size(asked, None) == Preprocessing(size=(40, 40))
    assert one_size(asked, 64) == Preprocessing(size=(64, 64))
    cropped = Preprocessing(size=(48, 48), crop_size=(32, 32))
    assert one_size(cropped, None) == cropped
    assert one_size(cropped, 64) == replace(cropped, size=(64, 64), crop_size=None)
    with pytest.raises(ValueError, match="no image size"):
        one_size(Preprocessing(size=None), None)


def test_from_nothing_everything_is_fresh_and_of_the_datas_task():
    how = {"image_size": 32, "options": TINY, "as_is": False}
    begun = from_nothing("vit-ti/8", "classify", NEW, **how)
    assert begun.fresh is None
    assert begun.network.config.num_labels == 3
    assert "hidden_size 24" in begun.about
    with pytest.raises(ValueError, match="vit-ti/8 is to classify, the data to segment"):
        from_nothing("vit-ti/8", "segment", NEW, **how)
