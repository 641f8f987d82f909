import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint
from models.explain.recording import record
from models.explain.relevance import distribute, gradient_relevance, normalized, rollout
from models.preprocessing import fit, normalize

VITS = [
    "vit",
    "wide_heads",
    "relative",
    "deit",
    "deit_with_teacher",
    "mean",
    "axial",
    "axial_class_token",
    "axial_registers",
    "vit_segmenter",
    "registers",
    "dinov2",
]
CLOSE = {"rtol": 1e-3, "atol": 1e-6}


def start(network, size):
    """Return what the head reads, (1, tokens): the class tokens, every patch, or both."""
    config = network.config
    if getattr(config, "pooling", "mean") == "mean":
        return torch.full((1, size), 1 / size)
    first = torch.zeros(1, size)
    if config.pooling == "class_mean":
        first[:, 0] = 0.5
        first[:, 1 + config.num_registers :] = 0.5 / (size - 1 - config.num_registers)
        return first
    first[:, : 2 if config.distillation_head else 1] = 1.0
    return first / first.sum()


def rescaled(x, layer):
    patches = x[:, layer.prefix :]
    return (patches / patches.sum(1, keepdim=True)).unflatten(1, layer.grid)


@pytest.mark.parametrize("name", VITS)
def test_rollout_equals_the_matrix_product_of_the_paper(make, name, pixels):
    network = make(name)
    recording = record(network, pixels[:1])
    size = recording.layers[0].weights().shape[-1]
    flow = torch.eye(size)
    for layer in recording.layers:
        flow = (0.5 * layer.weights()[0].mean(0) + 0.5 * torch.eye(size)) @ flow
    expected = rescaled(start(network, size) @ flow, recording.layers[0])
    torch.testing.assert_close(rollout(network, recording), expected, **CLOSE)


@pytest.mark.parametrize("name", VITS)
def test_gradient_relevance_equals_the_recursion_of_the_paper(make, name, pixels):
    network = make(name)
    recording = record(network, pixels[:1], gradients=True)
    size = recording.layers[0].weights().shape[-1]
    relevance = torch.eye(size)
    for layer in recording.layers:
        positive = (layer.weights() * layer.weights_gradient())[0].clamp(min=0).mean(0)
        relevance = relevance + positive @ relevance
    moved = start(network, size) @ (relevance - torch.eye(size))
    expected = rescaled(moved, recording.layers[0])
    torch.testing.assert_close(gradient_relevance(network, recording), expected, **CLOSE)


def upsampling_matrix(coarse, fine, ratio):
    """Return the matrix (coarse cells, fine cells) that distributes each cell's part evenly."""
    matrix = torch.zeros(coarse[0] * coarse[1], fine[0] * fine[1])
    for row in range(fine[0]):
        for column in range(fine[1]):
            if row // ratio < coarse[0] and column // ratio < coarse[1]:
                cell = row // ratio * coarse[1] + column // ratio
                matrix[cell, row * fine[1] + column] = 1.0
    return matrix / matrix.sum(1, keepdim=True)


@pytest.mark.parametrize("name", ["segformer", "segformer_classifier"])
def test_rollout_through_stages_equals_the_product_of_upsampled_matrices(make, name, pixels):
    network = make(name)
    recording = record(network, pixels[:1])
    parts = {"segformer": [0.25] * 4, "segformer_classifier": [0.0, 0.0, 0.0, 1.0]}[name]
    expected = torch.zeros(())
    for index, stage in reversed(list(enumerate(recording.stages))):
        if index < 3:
            coarser = recording.stages[index + 1]
            expected = expected @ upsampling_matrix(coarser.grid, stage.grid, coarser.stride)
        size = stage.grid[0] * stage.grid[1]
        expected = expected + torch.full((1, size), parts[index] / size)
        for layer in reversed(stage.layers):
            weights = layer.weights()[0].mean(0) @ upsampling_matrix(
                layer.key_grid, stage.grid, layer.ratio
            )
            expected = 0.5 * expected + 0.5 * expected @ weights
    torch.testing.assert_close(
        rollout(network, recording), expected.unflatten(1, recording.stages[0].grid), **CLOSE
    )


def test_distribution_is_even_and_keeps_the_sum_at_incomplete_cells():
    v = torch.rand(2, 6)
    fine = distribute(v, (2, 3), (3, 5), 2)
    torch.testing.assert_close(fine, v @ upsampling_matrix((2, 3), (3, 5), 2))
    torch.testing.assert_close(fine.sum(1), v.sum(1))


def test_cells_beyond_the_coarse_grid_get_0():
    fine = distribute(torch.ones(1, 2), (1, 2), (3, 5), 2).view(3, 5)
    assert (fine[:2, :4] == 0.25).all()
    assert fine[2].sum() + fine[:, 4].sum() == 0


def test_without_positive_attention_the_relevance_is_0(make, pixels):
    recording = record(make("vit"), pixels)
    tokens = recording.layers[0].weights().shape[-1]
    assert not normalized(torch.zeros(2, tokens), recording).any()


@pytest.mark.parametrize("method", [rollout, gradient_relevance])
def test_every_network_gives_a_relevance_per_image(network, pixels, method):
    recording = record(network, pixels, gradients=True)
    relevance = method(network, recording)
    assert relevance.shape == (2, *recording.stages[0].grid)
    assert (relevance >= 0).all()
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(2))
    alone = method(network, record(network, pixels[1:], gradients=True))
    torch.testing.assert_close(relevance[1:], alone, **CLOSE)


def test_relevance_is_concentrated_on_the_shape_of_the_label(truth):
    trained = checkpoint.load(checkpoint.bundled("classify"))
    for name, entry in truth.items():
        image = Image.open(f"tests/samples/{name}").convert("RGB")
        array = np.asarray(fit(image, trained.preprocessing))
        pixels = normalize(torch.from_numpy(array.copy())[None], trained.preprocessing)
        recording = record(trained.network, pixels, gradients=True)
        (relevance,) = gradient_relevance(trained.network, recording)
        mask = Image.open(f"tests/samples/{entry['mask']}")
        index = 1 + list(trained.labels).index(entry["label"])
        shape = Image.fromarray((np.asarray(mask) == index).astype(np.float32))
        cells = np.asarray(shape.resize(relevance.shape[::-1], Image.Resampling.BOX))
        assert (relevance.numpy() * cells).sum() > 1.5 * cells.mean(), name
