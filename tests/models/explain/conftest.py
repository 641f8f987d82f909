"""Small networks of every kind, with random weights and uneven attention."""

from collections.abc import Callable

import pytest
import torch

from models.registry import Network
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

ENCODER = {
    "image_size": (32, 48), "patch_size": 8, "hidden_size": 16,
    "num_layers": 3, "num_heads": 2, "mlp_size": 32,
}  # fmt: skip
STAGES = SegformerConfig(
    depths=(1, 2, 1, 1),
    hidden_sizes=(8, 8, 16, 16),
    num_heads=(1, 2, 2, 4),
    decoder_hidden_size=8,
    num_labels=5,
)
DISTILLED = {"distillation_token": True}


def vit(**options: object) -> ViT:
    return ViT(ViTConfig(**ENCODER | {"num_labels": 5} | options))


def vit_segmenter(**options: object) -> ViTSegmenter:
    return ViTSegmenter(ViTSegmenterConfig(**ENCODER, **options))


NETWORKS: dict[str, Callable[[], Network]] = {
    "vit": vit,
    "hybrid": lambda: vit(patch_embedding="hybrid", head="mlp"),
    "relative": lambda: vit(positions="relative"),
    "mean": lambda: vit(pooling="mean", positions="sinusoidal_2d"),
    "axial": lambda: vit(pooling="mean", attention="axial"),
    "axial_class_token": lambda: vit(attention="axial", **DISTILLED),
    "wide_heads": lambda: vit(num_heads=3, head_dim=11),
    "registers": lambda: vit(num_registers=3),
    "axial_registers": lambda: vit(attention="axial", num_registers=3),
    "dinov2": lambda: vit(pooling="class_mean", num_registers=2, mlp="swiglu", antialias=True),
    "deit": lambda: vit(**DISTILLED),
    "deit_with_teacher": lambda: vit(**DISTILLED, distillation_head=True),
    "vit_segmenter": vit_segmenter,
    "axial_vit_segmenter": lambda: vit_segmenter(attention="axial"),
    "segformer": lambda: Segformer(STAGES),
    "segformer_classifier": lambda: SegformerClassifier(STAGES),
}


@pytest.fixture
def make() -> Callable[[str], Network]:
    """Build a network by name, in eval mode, with weights large enough for uneven attention."""

    @torch.no_grad()
    def build(name: str) -> Network:
        torch.manual_seed(5)
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        return network

    return build


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, make: Callable[[str], Network]) -> Network:
    """Each network in turn."""
    return make(request.param)


@pytest.fixture
def pixels() -> torch.Tensor:
    """Two images whose size is a multiple of neither 8 nor 64 pixels."""
    return torch.randn(2, 3, 70, 45, generator=torch.Generator().manual_seed(7))
