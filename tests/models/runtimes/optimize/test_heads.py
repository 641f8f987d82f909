import pytest
import torch

from models.runtimes.optimize import optimize
from models.vit import ViT, ViTConfig


@pytest.fixture(params=[torch.bfloat16, torch.float16])
def half(request):
    return request.param


def thousand_labels() -> ViT:
    """A classifier with as many labels as ImageNet."""
    torch.manual_seed(1)
    config = ViTConfig(
        image_size=(32, 32),
        patch_size=8,
        hidden_size=48,
        num_layers=2,
        num_heads=3,
        mlp_size=96,
        num_labels=1000,
    )
    network = ViT(config).eval()
    with torch.no_grad():
        network.head.weight.normal_(std=0.1)
    return network


@torch.inference_mode()
def test_in_half_precision_the_best_labels_have_no_equal_logits(half):
    network, pixels = thousand_labels(), torch.randn(16, 3, 32, 32)
    logits = optimize(network, dtype=half)(pixels)
    rounded = logits.to(torch.bfloat16).topk(5).values
    best = logits.topk(5).values
    assert (rounded.diff() == 0).any()  # what a head in bfloat16 would give
    assert (best.diff() != 0).all()


@torch.inference_mode()
def test_the_head_has_the_weights_of_the_plain_network(half):
    network, pixels = thousand_labels(), torch.randn(4, 3, 32, 32)
    form = optimize(network, dtype=half)
    logits, embedding = form.classify(pixels)
    assert embedding.dtype == half
    torch.testing.assert_close(logits, network.head(embedding.float()), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_every_network_returns_logits_in_float32(each_kind, half):
    assert optimize(each_kind, dtype=half)(torch.randn(1, 3, 45, 70)).dtype == torch.float32
