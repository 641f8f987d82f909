"""ViT with options as in the text "Vision Transformers in Words and Code", written out."""

import pytest
import torch
from torch import nn

from models.vit import ViT, ViTConfig

CONFIG = ViTConfig(
    image_size=(24, 40),
    patch_size=8,
    patch_embedding="normalized",
    patch_order="channels_last",
    hidden_size=20,
    num_layers=2,
    num_heads=3,
    head_dim=16,
    mlp_size=28,
    qkv_bias=False,
    layer_norm_eps=1e-5,
    num_labels=5,
)


class TextAttention(nn.Module):
    """`Attention` of the text: one matrix for query, key and value, heads of `dim_head`."""

    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, dim_head * heads * 3, bias=False)
        self.to_out = nn.Linear(dim_head * heads, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (
            t.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3)
            for t in self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        )
        attention = (torch.matmul(q, k.transpose(-1, -2)) * self.scale).softmax(dim=-1)
        out = torch.matmul(attention, v).permute(0, 2, 1, 3).reshape(b, n, -1)
        return self.to_out(out)


def text_block(block):
    """Return the layers of the text with the weights of our block."""
    inner = CONFIG.num_heads * CONFIG.head_dim
    attention = TextAttention(CONFIG.hidden_size, CONFIG.num_heads, CONFIG.head_dim)
    parts = (block.attention.query, block.attention.key, block.attention.value)
    with torch.no_grad():
        attention.to_qkv.weight.copy_(torch.cat([part.weight for part in parts]))
    assert attention.to_qkv.weight.shape == (3 * inner, CONFIG.hidden_size)
    attention.norm.load_state_dict(block.norm_1.state_dict())
    attention.to_out.load_state_dict(block.attention.output.state_dict())
    feed_forward = nn.Sequential(block.norm_2, block.mlp.expand, nn.GELU(), block.mlp.contract)
    return attention, feed_forward


@pytest.mark.parametrize("pooling", ["class", "mean"])
@torch.no_grad()
def test_it_equals_the_network_of_the_text(pooling, perturb):
    network = ViT(ViTConfig(**{**vars(CONFIG), "pooling": pooling})).eval()
    perturb(network)
    images = torch.randn(2, 3, 24, 40)
    split = images.reshape(2, 3, 3, 8, 5, 8)  # b c h p1 w p2
    patches = split.permute(0, 2, 4, 3, 5, 1).reshape(2, 15, 192)  # b (h w) (p1 p2 c)
    embedding = network.patch_embedding
    x = embedding.norm_2(embedding.projection(embedding.norm_1(patches)))
    if pooling == "class":
        x = torch.cat((network.class_token.repeat(2, 1, 1), x), dim=1)
    x = x + network.positions
    for block in network.encoder.blocks:
        attention, feed_forward = text_block(block)
        x = attention(x) + x
        x = feed_forward(x) + x
    x = network.norm(x)
    x = x.mean(dim=1) if pooling == "mean" else x[:, 0]
    torch.testing.assert_close(network(images), network.head(x))
