import pytest
import torch

from models.figures.canvas import FigureError
from models.figures.positions import position_table, positions_figure, sinusoids_figure
from models.layers.positions import sinusoid_1d, sinusoid_2d
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SMALL = {
    "image_size": (16, 72), "patch_size": 8, "hidden_size": 16,
    "num_layers": 1, "num_heads": 2, "mlp_size": 8,
}  # fmt: skip
SEGFORMER = Segformer(SegformerConfig(depths=(1, 1, 1, 1), num_labels=2))


def vit(**options):
    return ViT(ViTConfig(**SMALL, **options))


def test_the_position_table_excludes_prefix_tokens():
    network = vit(distillation_token=True)
    table, grid = position_table(network)
    assert grid == (2, 9)
    torch.testing.assert_close(table, network.positions.data[0, 2:])


def test_sinusoidal_positions_have_a_table():
    torch.testing.assert_close(
        position_table(vit(positions="sinusoidal_1d"))[0], sinusoid_1d(19, 16)[1:]
    )
    torch.testing.assert_close(
        position_table(vit(positions="sinusoidal_2d"))[0], sinusoid_2d((2, 9), 16)
    )


@pytest.mark.parametrize("network", [vit(), ViTSegmenter(ViTSegmenterConfig(**SMALL))])
def test_similarities_and_sinusoids_are_drawn(network):
    assert positions_figure(network, "small").startswith(b"\x89PNG")
    assert sinusoids_figure(network, "small").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("draw", "network", "reason"),
    [
        (positions_figure, SEGFORMER, "its convolutions provide positions"),
        (positions_figure, vit(positions="relative"), "a bias of the attention"),
        (sinusoids_figure, SEGFORMER, "for a ViT"),
    ],
)
def test_the_error_says_why_a_network_has_no_such_figure(draw, network, reason):
    with pytest.raises(FigureError, match=reason):
        draw(network, "small")
