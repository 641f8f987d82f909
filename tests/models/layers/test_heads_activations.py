import pytest
import torch
from transformers.activations import ACT2FN

from models.layers.heads import ACTIVATIONS, activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_equals_the_reference_of_that_name(name):
    x = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(activation(name)(x), ACT2FN[name](x), rtol=1e-6, atol=1e-6)


def test_the_error_for_an_unknown_activation_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown activation 'softsign'; known: gelu, "):
        activation("softsign")
