import pytest
import torch

from models.explain import METHODS, attention_maps, explain


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_has_relevance_logits_and_a_distance_per_head(network, pixels, method):
    explanation = explain(network, pixels, method)
    maps = attention_maps(network, pixels)
    rows, columns = explanation.relevance.shape[1:]
    assert abs(rows * explanation.cell - 70) < explanation.cell
    assert abs(columns * explanation.cell - 45) < explanation.cell
    for distance, weights in zip(explanation.attention_distance, maps, strict=True):
        assert distance.shape == weights.shape[:2]
        assert (distance > 0).any()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    with torch.inference_mode():
        torch.testing.assert_close(explanation.logits, network(pixels), rtol=1e-4, atol=1e-5)


def test_the_methods_differ(make, pixels):
    relevance = [explain(make("vit"), pixels, method).relevance for method in METHODS]
    assert not torch.allclose(*relevance, atol=1e-3)


def test_a_network_in_half_precision_is_explained(make, pixels):
    network = make("vit").to(torch.bfloat16)
    relevance = explain(network, pixels.to(torch.bfloat16)).relevance
    assert relevance.dtype == torch.float32
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(2))


def test_an_unknown_method_is_refused(make, pixels):
    with pytest.raises(ValueError, match="gradient or rollout, not 'lime'"):
        explain(make("vit"), pixels, "lime")
