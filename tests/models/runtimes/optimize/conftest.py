"""Small networks with random weights, on which every transformation is tested."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SMALL = {
    "image_size": (32, 48),
    "patch_size": 8,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 3,
    "mlp_size": 40,
    "num_labels": 5,
}
SMALL_SEGFORMER = {
    "depths": (1, 2, 1),
    "hidden_sizes": (8, 12, 16),
    "num_heads": (1, 3, 2),
    "sr_ratios": (4, 2, 1),
    "patch_sizes": (7, 3, 3),
    "strides": (4, 2, 2),
    "mlp_ratios": (2, 3, 2),
    "decoder_hidden_size": 16,
    "num_labels": 3,
}
VITS = {
    "plain": {},
    "linear patches": {"patch_embedding": "linear"},
    "linear patches, channels last": {
        "patch_embedding": "linear",
        "patch_order": "channels_last",
    },
    "normalized patches, channels last": {
        "patch_embedding": "normalized",
        "patch_order": "channels_last",
    },
    "normalized patches": {"patch_embedding": "normalized"},
    "hybrid": {"patch_embedding": "hybrid"},
    "1-D sinusoids": {"positions": "sinusoidal_1d"},
    "2-D sinusoids": {"positions": "sinusoidal_2d", "pooling": "mean"},
    "relative positions": {"positions": "relative"},
    "relative positions, mean": {"positions": "relative", "pooling": "mean"},
    "mean": {"pooling": "mean"},
    "MLP head": {"head": "mlp"},
    "no bias": {"qkv_bias": False},
    "tanh GELU": {"hidden_act": "gelu_new"},
    "SiLU": {"hidden_act": "silu"},
    "quick GELU": {"hidden_act": "quick_gelu"},
    "axial": {"attention": "axial", "pooling": "mean"},
    "narrow heads": {"head_dim": 5},
    "wide heads, no bias": {"num_heads": 2, "head_dim": 20, "qkv_bias": False},
    "axial, class token": {"attention": "axial"},
    "axial, two heads": {
        "attention": "axial",
        "distillation_token": True,
        "distillation_head": True,
    },
    "axial, registers": {"attention": "axial", "num_registers": 2},
    "axial with wide heads": {"attention": "axial", "pooling": "mean", "head_dim": 16},
    "distilled": {"distillation_token": True},
    "two heads": {"distillation_token": True, "distillation_head": True},
    "class and mean": {"pooling": "class_mean"},
    "registers and SwiGLU": {"num_registers": 3, "antialias": True, "mlp": "swiglu"},
    "DINOv2": {"pooling": "class_mean", "num_registers": 2, "antialias": True, "mlp": "swiglu"},
    "mean without registers": {"pooling": "mean", "num_registers": 2},
    "relative registers": {"positions": "relative", "num_registers": 2},
    "two relative heads": {
        "distillation_token": True,
        "distillation_head": True,
        "positions": "relative",
    },
}
SEGMENTING_VITS = {"segmenting ViT": {}, "segmenting axial ViT": {"attention": "axial"}}
SEGFORMERS = {
    "SegFormer": {},
    "SegFormer with ReLU": {"hidden_act": "relu"},
    "SegFormer with SiLU": {"hidden_act": "silu"},
    "SegFormer with quick GELU": {"hidden_act": "quick_gelu"},
    "SegFormer with aligned upsampling": {"aligned_upsampling": True, "norm_eps": 0.1},
    "SegFormer of one stage": {
        name: value[:1] for name, value in SMALL_SEGFORMER.items() if isinstance(value, tuple)
    },
}
NETWORKS = (*VITS, *SEGMENTING_VITS, *SEGFORMERS, "SegFormer classifier")
KINDS = (  # together they take every code path of the transformations
    "normalized patches",
    "hybrid",
    "two relative heads",  # class token, convolution patches, mask of the attention
    "axial",
    "axial, class token",
    "DINOv2",  # SwiGLU
    "SiLU",  # an activation without a post-op
    "segmenting ViT",
    "SegFormer",
    "SegFormer classifier",
)


@pytest.fixture
def network(perturb: Callable[[nn.Module], None]) -> Callable[[str], nn.Module]:
    """A small network by name, one of NETWORKS, with random weights, in eval mode."""

    def build(name: str) -> nn.Module:
        if name in VITS:
            built = ViT(ViTConfig(**{**SMALL, **VITS[name]}))
        elif name in SEGMENTING_VITS:
            built = ViTSegmenter(ViTSegmenterConfig(**{**SMALL, **SEGMENTING_VITS[name]}))
        elif name in SEGFORMERS:
            built = Segformer(SegformerConfig(**{**SMALL_SEGFORMER, **SEGFORMERS[name]}))
        else:
            built = SegformerClassifier(SegformerConfig(**SMALL_SEGFORMER))
        perturb(built)
        return built.eval()

    return build


@pytest.fixture(params=NETWORKS)
def any_network(request: pytest.FixtureRequest, network: Callable[[str], nn.Module]) -> nn.Module:
    """Each of the small networks in turn."""
    return network(request.param)


@pytest.fixture(params=KINDS)
def each_kind(request: pytest.FixtureRequest, network: Callable[[str], nn.Module]) -> nn.Module:
    """Networks that take every code path, in turn."""
    return network(request.param)


@pytest.fixture
def assert_same(
    assert_equal_logits: Callable[[Tensor, Tensor], None],
) -> Callable[[nn.Module, nn.Module], None]:
    """Check that two networks give the same logits, at the training size and at other sizes."""

    def check(ours: nn.Module, plain: nn.Module) -> None:
        with torch.inference_mode():
            for batch, size in ((1, (32, 48)), (3, (45, 70)), (2, (97, 65))):
                pixels = torch.randn(batch, 3, *size)
                assert_equal_logits(ours(pixels), plain(pixels))

    return check
