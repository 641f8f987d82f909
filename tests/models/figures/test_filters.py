import pytest
import torch

from models.figures.filters import filters_figure, first_filters, principal_components
from models.layers.patch_embedding import PATCH_EMBEDDINGS, linear_weight
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SMALL = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 8, "image_size": (16, 24)}


def test_principal_components_are_the_directions_of_largest_variance():
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(3 * 4 * 4, 3)).Q.T  # (3, 48)
    spread = torch.tensor([9.0, 3.0, 1.0])
    filters = 5.0 + (torch.randn(500, 3) * spread @ directions).view(500, 3, 4, 4)
    components, parts = principal_components(filters, 2)
    assert components.shape == (2, 3, 4, 4)
    along = (components.flatten(1) @ directions.T).abs()  # (2, 3)
    torch.testing.assert_close(along[:, :2], torch.eye(2), atol=0.1, rtol=0)
    assert parts.tolist() == pytest.approx([81 / 91, 9 / 91], abs=0.03)


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_linear_and_convolution_patches_have_the_same_filters(order):
    torch.manual_seed(0)
    convolved = ViT(ViTConfig(**SMALL, patch_size=8))
    options = {"patch_embedding": "linear", "patch_order": order}
    linear = ViT(ViTConfig(**SMALL, patch_size=8, **options))
    weight = convolved.patch_embedding.projection.weight
    linear.patch_embedding.projection.weight.data = linear_weight(weight, order)
    torch.testing.assert_close(first_filters(linear), first_filters(convolved))


@pytest.mark.parametrize(
    "network",
    [
        *(ViT(ViTConfig(**SMALL, patch_size=8, patch_embedding=p)) for p in PATCH_EMBEDDINGS),
        ViTSegmenter(ViTSegmenterConfig(**SMALL, patch_size=8)),
        Segformer(SegformerConfig(depths=(1, 1, 1, 1), num_labels=2)),
    ],
    ids=[*PATCH_EMBEDDINGS, "vit_segmenter", "segformer"],
)
def test_the_filters_of_every_network_are_drawn(network):
    assert first_filters(network).shape[1] == 3
    assert filters_figure(network, "small").startswith(b"\x89PNG")
