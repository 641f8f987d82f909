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


def test_a_patch_is_a_window_of_the_image_with_channels_outermost():
    image = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = patchify(image, 4)
    assert patches.shape == (2, 2, 3, 48)
    for row in range(2):
        for column in range(3):
            window = image[:, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            assert torch.equal(patches[:, row, column], window.flatten(1))


def test_with_channels_last_a_patch_holds_the_channels_of_each_pixel_together():
    image = torch.arange(2 * 3 * 9 * 12.0).view(2, 3, 9, 12)
    patches = patchify(image, 4, "channels_last")
    assert patches.shape == (2, 2, 3, 48)
    for row in range(2):
        for column in range(3):
            values = [
                image[:, channel, row * 4 + y, column * 4 + x]
                for y in range(4)
                for x in range(4)
                for channel in range(3)
            ]
            assert torch.equal(patches[:, row, column], torch.stack(values, dim=1))


def test_channels_last_equals_the_rearrangement_of_the_texts():
    """einops: rearrange(image, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)")."""
    image = torch.randn(2, 3, 8, 12)
    split = image.reshape(2, 3, 2, 4, 3, 4)  # b c h p1 w p2
    expected = split.permute(0, 2, 4, 3, 5, 1).reshape(2, 6, 48)
    assert torch.equal(patchify(image, 4, "channels_last").flatten(1, 2), expected)


def test_unpatchify_inverts_patchify():
    image = torch.randn(2, 5, 12, 8)
    assert torch.equal(unpatchify(patchify(image, 4), 4), image)


def test_patchify_cuts_off_incomplete_patches():
    image = torch.randn(1, 3, 11, 9)
    assert torch.equal(patchify(image, 4), patchify(image[:, :, :8, :8], 4))


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_linear_and_convolution_patches_with_the_same_weight_are_equal(order):
    convolution, linear = ConvolutionPatches(10, 4), LinearPatches(10, 4, order=order)
    with torch.no_grad():
        linear.projection.weight.copy_(linear_weight(convolution.projection.weight, order))
        linear.projection.bias.copy_(convolution.projection.bias)
    pixels = torch.randn(2, 3, 13, 8)
    torch.testing.assert_close(linear(pixels), convolution(pixels))


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_patch_weights_convert_in_both_directions(order):
    weight = torch.randn(10, 3, 4, 4)
    assert torch.equal(convolution_weight(linear_weight(weight, order), 4, order), weight)


def test_normalized_patches_with_channels_last_equal_the_layers_of_the_text():
    patches = NormalizedPatches(10, 4, order="channels_last")
    with torch.no_grad():
        for parameter in patches.parameters():
            parameter.add_(torch.randn_like(parameter))
    pixels = torch.randn(2, 3, 8, 12)
    x = pixels.reshape(2, 3, 2, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(2, 6, 48)
    expected = patches.norm_2(patches.projection(patches.norm_1(x)))
    torch.testing.assert_close(patches(pixels).flatten(1, 2), expected)


def test_normalized_patches_are_normalized():
    patches = NormalizedPatches(16, 4)
    y = patches(100 * torch.randn(2, 3, 8, 8) + 50)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(-1, correction=0), torch.ones(2, 2, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", PATCH_EMBEDDINGS)
def test_every_patch_embedding_gives_one_token_per_patch(kind):
    assert PATCH_EMBEDDINGS[kind](24, 8)(torch.randn(2, 3, 16, 40)).shape == (2, 2, 5, 24)


def test_a_hybrid_embedding_depends_on_pixels_of_adjacent_patches():
    patches = HybridPatches(16, 8).eval()
    pixels = torch.zeros(1, 3, 16, 16)
    before = patches(pixels)
    pixels[:, :, :8, 7] = 5.0  # in the left patch, next to the right one
    assert not torch.equal(patches(pixels)[0, 0, 1], before[0, 0, 1])
    assert any(isinstance(module, nn.BatchNorm2d) for module in patches.modules())


def test_a_hybrid_needs_a_patch_size_that_is_a_multiple_of_4():
    with pytest.raises(ValueError, match="a multiple of 4, not 6"):
        HybridPatches(16, 6)
