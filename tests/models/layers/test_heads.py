import torch

from models.layers.heads import MLPHead


def test_an_mlp_head_has_one_hidden_layer_with_tanh():
    head = MLPHead(8, 3)
    x = torch.randn(4, 8)
    hidden = (x @ head.hidden.weight.T + head.hidden.bias).tanh()
    torch.testing.assert_close(head(x), hidden @ head.output.weight.T + head.output.bias)
