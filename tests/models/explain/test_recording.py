from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.explain.recording import record
from models.layers.attention import Attention, ReducedAttention, join_heads, split_heads

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def explicit(attention, seen):
    """A forward of the attention through weights that autograd sees; they are noted in `seen`."""

    def forward(x, mask=None):
        weights = attention.weights(x, mask)
        weights.retain_grad()
        seen.append(weights)
        context = attention.reduction(x) if isinstance(attention, ReducedAttention) else x
        value = attention.value(context.flatten(1, -2))
        mixed = join_heads(weights @ split_heads(value, attention.num_heads))
        return attention.output(mixed).view(x.shape)

    return forward


def best(logits):
    """The sum over the images of the best logit; of a segmenter the mean over its pixels."""
    return logits.flatten(2).amax(1).mean(1).sum() if logits.ndim > 2 else logits.amax(1).sum()


def test_the_weights_and_their_gradients_are_those_of_autograd(network, pixels):
    network, pixels = network.double(), pixels.double()
    recording = record(network, pixels, gradients=True)
    seen = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.forward = explicit(module, seen)
    logits = network(pixels)
    best(logits).backward()
    torch.testing.assert_close(recording.logits, logits.detach(), **CLOSE)
    for layer, weights in zip(recording.layers, seen, strict=True):
        torch.testing.assert_close(layer.weights(), weights.detach().float(), **CLOSE)
        heeded = weights.detach() > 0  # between the lines of an axis autograd has gradients, too
        torch.testing.assert_close(
            layer.weights_gradient() * heeded,
            (weights.grad * heeded).float(),
            rtol=1e-4,
            atol=1e-6 * weights.grad.abs().max().item(),
        )


def test_a_mask_weighs_in_the_weights_that_are_recorded(make, pixels):
    network = make("relative")
    (first, *_) = record(network, pixels).layers
    with torch.no_grad():
        tokens, grid = network.tokens(pixels)
        x = network.encoder.blocks[0].norm_1(tokens)
        expected = network.encoder.blocks[0].attention.weights(x, network.relative_bias(grid))
    torch.testing.assert_close(first.weights(), expected)


def test_the_network_is_left_as_it_was(network, pixels):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    record(network, pixels, gradients=True)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_the_logits_are_those_of_the_network_in_eval_mode(network, pixels):
    recording = record(network, pixels)
    with torch.inference_mode():
        torch.testing.assert_close(recording.logits, network(pixels), **CLOSE)


def test_it_works_where_inference_is_declared(make, pixels):
    network = make("vit")
    with torch.inference_mode():
        recording = record(network, pixels + 0, gradients=True)
        assert recording.layers[0].weights_gradient().any()


def test_no_parameter_needs_to_want_a_gradient(make, pixels):
    network = make("vit").requires_grad_(False)
    assert record(network, pixels, gradients=True).layers[0].weights_gradient().any()


@pytest.mark.parametrize("name", ["vit", "segformer"])
def test_threads_that_use_one_network_do_not_see_each_others_tensors(make, name):
    network = make(name)
    images = [torch.randn(1, 3, 32, 48) for _ in range(6)]

    def weights(image):
        network(image)  # as the service does meanwhile
        return [layer.weights() for layer in record(network, image, gradients=True).layers]

    alone = [weights(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(weights, images))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
