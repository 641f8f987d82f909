import pytest
import torch
from torch import nn

from models.layers.patch_embedding import (
    PATCH_EMBEDDINGS,
    ConvolutionPatches,
    HybridPatches,
    LinearPatches,
    NormalizedPatches,
    convolution_weight,
    linear_weight,
    patchify,
    unpatchify,
)


def test_a_patch_is_a_window_of_the_image_row_by_row_and_channels_outermost():
    image = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = patchify(image, 4)
    assert patches.shape == (2, 2, 3, 48)
    for row in range(2):
        for column in range(3):
            window = image[:, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            assert torch.equal(patches[:, row, column], window.flatten(1))


def test_patches_put_together_are_the_image():
    image = torch.randn(2, 5, 12, 8)
    assert torch.equal(unpatchify(patchify(image, 4), 4), image)


def test_what_does_not_fill_a_patch_is_cut():
    image = torch.randn(1, 3, 11, 9)
    assert torch.equal(patchify(image, 4), patchify(image[:, :, :8, :8], 4))


def test_a_linear_layer_on_patches_is_the_convolution_with_the_same_weight():
    convolution, linear = ConvolutionPatches(10, 4), LinearPatches(10, 4)
    with torch.no_grad():
        linear.projection.weight.copy_(linear_weight(convolution.projection.weight))
        linear.projection.bias.copy_(convolution.projection.bias)
    pixels = torch.randn(2, 3, 13, 8)
    torch.testing.assert_close(linear(pixels), convolution(pixels))


def test_weights_are_converted_both_ways():
    weight = torch.randn(10, 3, 4, 4)
    assert torch.equal(convolution_weight(linear_weight(weight), 4), weight)


def test_the_linear_layer_may_stand_between_two_norms():
    patches = NormalizedPatches(16, 4)
    y = patches(100 * torch.randn(2, 3, 8, 8) + 50)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(-1, correction=0), torch.ones(2, 2, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", PATCH_EMBEDDINGS)
def test_every_kind_gives_a_grid_of_one_token_a_patch(kind):
    assert PATCH_EMBEDDINGS[kind](24, 8)(torch.randn(2, 3, 16, 40)).shape == (2, 2, 5, 24)


def test_a_hybrid_sees_beyond_the_edges_of_a_patch():
    patches = HybridPatches(16, 8).eval()
    pixels = torch.zeros(1, 3, 16, 16)
    before = patches(pixels)
    pixels[:, :, :8, 7] = 5.0  # in the left patch, next to the right one
    assert not torch.equal(patches(pixels)[0, 0, 1], before[0, 0, 1])
    assert any(isinstance(module, nn.BatchNorm2d) for module in patches.modules())


def test_a_hybrid_wants_a_patch_of_four_stem_pixels_or_a_multiple():
    with pytest.raises(ValueError, match="a multiple of 4, not 6"):
        HybridPatches(16, 6)
