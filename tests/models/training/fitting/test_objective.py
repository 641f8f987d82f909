import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from models import checkpoint
from models.checkpoint import Checkpoint
from models.training.data.examples import Batch
from models.training.fitting.networks import network_named, preprocessing_for, task_of
from models.training.fitting.objective import Learner
from models.training.fitting.recipe import Recipe, optimizer_for
from models.training.step import Loop

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
SMALL = {
    "depths": "1,1,1,1",
    "hidden_sizes": "8,8,16,16",
    "num_heads": "1,1,2,2",
    "decoder_hidden_size": "8",
}
NETWORKS = [
    ("vit-ti/8", TINY, "ViTForImageClassification"),
    ("vit-ti/8", TINY | {"positions": "sinusoidal_2d", "patch_embedding": "hybrid"}, None),
    ("vit-ti/8", TINY | {"attention": "axial", "pooling": "mean", "head": "mlp"}, None),
    (
        "vit-ti/8",
        TINY | {"positions": "relative", "num_layers": "2", "patch_embedding": "normalized"},
        None,
    ),
    ("deit-ti/8", TINY, "DeiTForImageClassificationWithTeacher"),
    ("vit-segmenter", TINY, None),
    ("segformer-b0", SMALL, "SegformerForSemanticSegmentation"),
    ("mit-b0", SMALL, "SegformerForImageClassification"),
]
LABELS = ("cat", "dog", "other")
SIDE = 32


def batch_for(name: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, SIDE, SIDE, 3), generator=generator).byte()
    if task_of(name) == "classify":
        return Batch(images, torch.tensor([0, 1, 2, 1]))
    truth = torch.randint(0, 3, (4, SIDE, SIDE), generator=generator).byte()
    return Batch(images, truth)


def pixels_of(batch: Batch) -> torch.Tensor:
    return (batch.images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


@pytest.mark.parametrize(("name", "options", "reference"), NETWORKS)
def test_a_step_trains_each_network_which_is_then_saved_and_loaded(
    tmp_path, name, options, reference
):
    torch.manual_seed(0)
    network = network_named(name, num_labels=3, image_size=SIDE, options=options)
    preprocessing = preprocessing_for(name, SIDE, as_is=False)
    learner = Learner(network, preprocessing)
    loop = Loop(learner, optimizer_for(learner, Recipe()))
    batch = batch_for(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert 0 < loop.step(batch) < 3
    after = network.state_dict()
    unchanged = [k for k, _ in network.named_parameters() if torch.equal(before[k], after[k])]
    assert all(
        ".query." in key or ".key." in key for key in unchanged
    )  # with a single token they have no gradient
    trained = loop.result()
    checkpoint.save(Checkpoint(trained, LABELS, preprocessing, task_of(name)), tmp_path)
    loaded = checkpoint.load(tmp_path)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = trained(pixels)
        assert torch.equal(loaded.network(pixels), expected)
        if reference:
            theirs = getattr(transformers, reference).from_pretrained(tmp_path).eval()
            assert torch.allclose(theirs(pixels).logits, expected, atol=2e-5)


def test_pixels_without_a_label_do_not_count():
    network = network_named("segformer-b0", num_labels=3, options=SMALL)
    preprocessing = preprocessing_for("segformer-b0", SIDE, as_is=False)
    learner, batch = Learner(network, preprocessing).eval(), batch_for("segformer-b0")
    truth = batch.truth.clone()
    truth[:, :8] = 255
    some, others = truth.clone(), truth.clone()
    others[:, 8:] = 255
    others[:, :8] = batch.truth[:, :8]
    whole = learner(batch).item()
    parts = [learner(Batch(batch.images, part)).item() for part in (some, others)]
    assert whole == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-4)


def test_both_heads_of_deit_learn_separately():
    network = network_named("deit-ti/8", num_labels=3, image_size=SIDE, options=TINY)
    preprocessing = preprocessing_for("deit-ti/8", SIDE, as_is=False)
    batch = batch_for("deit-ti/8")
    learner = Learner(network, preprocessing).eval()
    with torch.no_grad():
        network.distillation_head.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
        loss = learner(batch).item()
        x = network.features(pixels_of(batch))
        heads = network.head(x[:, 0]), network.distillation_head(x[:, 1])
    expected = sum(cross_entropy(logits, batch.truth).item() for logits in heads) / 2
    assert loss == pytest.approx(expected, rel=1e-5)


def test_only_the_distillation_head_learns_from_a_teacher():
    network = network_named("deit-ti/8", num_labels=3, image_size=SIDE, options=TINY)
    preprocessing = preprocessing_for("deit-ti/8", SIDE, as_is=False)
    batch = batch_for("deit-ti/8")
    learner = Learner(network, preprocessing, lambda images: torch.full((len(images),), 2)).eval()
    with torch.no_grad():
        network.distillation_head.bias.copy_(torch.tensor([0.0, 0.0, 40.0]))
        whole = cross_entropy(network.head(network.features(pixels_of(batch))[:, 0]), batch.truth)
        assert learner(batch).item() == pytest.approx(whole.item() / 2, rel=1e-4)
    plain = network_named("vit-ti/8", num_labels=3, image_size=SIDE, options=TINY)
    with pytest.raises(ValueError, match="distillation head"):
        Learner(plain, preprocessing, lambda images: batch.truth)
