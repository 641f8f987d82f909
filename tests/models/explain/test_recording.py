from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.explain.recording import record
from models.layers.attention import Attention, ReducedAttention, join_heads, split_heads

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def explicit(attention, recorded):
    """Return a forward of the attention with weights that autograd sees, added to `recorded`."""

    def forward(x, mask=None):
        weights = attention.weights(x, mask)
        weights.retain_grad()
        recorded.append(weights)
        context = attention.reduction(x) if isinstance(attention, ReducedAttention) else x
        value = attention.value(context.flatten(1, -2))
        heads = join_heads(weights @ split_heads(value, attention.num_heads))
        return attention.output(heads).view(x.shape)

    return forward


def best(logits):
    """Return the sum over images of the best logit; for a segmenter its mean over the pixels."""
    return logits.flatten(2).amax(1).mean(1).sum() if logits.ndim > 2 else logits.amax(1).sum()


def test_weights_and_gradients_equal_those_of_autograd(network, pixels):
    network, pixels = network.double(), pixels.double()
    recording = record(network, pixels, gradients=True)
    recorded = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.forward = explicit(module, recorded)
    logits = network(pixels)
    best(logits).backward()
    torch.testing.assert_close(recording.logits, logits.detach(), **CLOSE)
    for layer, weights in zip(recording.layers, recorded, strict=True):
        torch.testing.assert_close(layer.weights(), weights.detach().float(), **CLOSE)
        attended = weights.detach() > 0  # autograd also has gradients between different lines
        torch.testing.assert_close(
            layer.weights_gradient() * attended,
            (weights.grad * attended).float(),
            rtol=1e-4,
            atol=1e-6 * weights.grad.abs().max().item(),
        )


def test_recorded_weights_include_the_mask(make, pixels):
    network = make("relative")
    (first, *_) = record(network, pixels).layers
    with torch.no_grad():
        tokens, grid = network.tokens(pixels)
        x = network.encoder.blocks[0].norm_1(tokens)
        expected = network.encoder.blocks[0].attention.weights(x, network.relative_bias(grid))
    torch.testing.assert_close(first.weights(), expected)


@pytest.mark.parametrize(
    "name", ["hybrid", "axial", "axial_class_token", "vit_segmenter", "segformer"]
)
def test_recording_does_not_modify_the_network(make, pixels, name):
    network = make(name).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    record(network, pixels, gradients=True)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_recording_works_inside_inference_mode(make, pixels):
    network = make("vit")
    with torch.inference_mode():
        recording = record(network, pixels + 0, gradients=True)
        assert recording.layers[0].weights_gradient().any()


def test_gradients_are_recorded_for_frozen_parameters(make, pixels):
    network = make("vit").requires_grad_(False)
    assert record(network, pixels, gradients=True).layers[0].weights_gradient().any()


@pytest.mark.parametrize("name", ["vit", "segformer"])
def test_concurrent_recordings_of_a_network_are_independent(make, name):
    network = make(name)
    images = [torch.randn(1, 3, 32, 48) for _ in range(6)]

    def weights(image):
        network(image)  # as a service does at the same time
        return [layer.weights() for layer in record(network, image, gradients=True).layers]

    expected = [weights(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        concurrent = list(pool.map(weights, images))
    for ours, theirs in zip(concurrent, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
