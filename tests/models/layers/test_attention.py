import pytest
import torch

from models.layers.attention import (
    Attention,
    AxialAttention,
    AxisAttention,
    GridMask,
    ReducedAttention,
    SequenceReduction,
    attention_weights,
    join_heads,
    split_heads,
)


def loop_attention(attention, x, context):
    """Compute softmax(Q K^T / sqrt(d)) V in a loop over the heads."""
    outputs = []
    width = x.shape[-1] // attention.num_heads
    query, key, value = attention.query(x), attention.key(context), attention.value(context)
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (query[..., part] @ key[..., part].mT / width**0.5).softmax(-1)
        outputs.append(weights @ value[..., part])
    return attention.output(torch.cat(outputs, dim=-1))


def test_attention_equals_the_formula_of_the_paper():
    attention = Attention(12, 3)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(attention(x), loop_attention(attention, x, x))


def loop_over_heads_and_queries(attention, x, head_dim):
    """Compute equation 1 of 1706.03762 for one query of one head at a time, heads of d channels."""
    heads = torch.zeros(*x.shape[:2], attention.num_heads, head_dim)
    shape = (*x.shape[:2], attention.num_heads, head_dim)
    query, key, value = (
        layer(x).reshape(shape) for layer in (attention.query, attention.key, attention.value)
    )
    for image in range(x.shape[0]):
        for head in range(attention.num_heads):
            for token in range(x.shape[1]):
                q = query[image, token, head]
                logits = torch.stack([q @ k for k in key[image, :, head]]) / head_dim**0.5
                weights = logits.exp() / logits.exp().sum()
                for other in range(x.shape[1]):
                    heads[image, token, head] += weights[other] * value[image, other, head]
    return attention.output(heads.reshape(*x.shape[:2], -1))


@pytest.mark.parametrize(("num_heads", "head_dim"), [(3, 7), (1, 5), (5, 1), (4, 16)])
def test_heads_may_have_any_number_of_channels(num_heads, head_dim):
    attention = Attention(12, num_heads, head_dim=head_dim)
    x = torch.randn(2, 5, 12)
    inner = num_heads * head_dim
    assert attention.query.weight.shape == attention.value.weight.shape == (inner, 12)
    assert attention.output.weight.shape == (12, inner)
    expected = loop_over_heads_and_queries(attention, x, head_dim)
    torch.testing.assert_close(attention(x), expected)
    weights = attention.weights(x)
    assert weights.shape == (2, num_heads, 5, 5)
    value = split_heads(attention.value(x), num_heads)
    torch.testing.assert_close(attention.output(join_heads(weights @ value)), expected)


def test_keys_and_values_may_come_from_other_tokens():
    attention = Attention(12, 3)
    x, context = torch.randn(2, 7, 12), torch.randn(2, 4, 12)
    torch.testing.assert_close(attention.attend(x, context), loop_attention(attention, x, context))


def test_splitting_and_joining_heads_are_inverse():
    x = torch.randn(2, 5, 12)
    assert split_heads(x, 4).shape == (2, 4, 5, 3)
    assert torch.equal(join_heads(split_heads(x, 4)), x)


def test_qkv_bias_is_optional():
    names = {name for name, _ in Attention(8, 2, qkv_bias=False).named_parameters()}
    assert {name for name in names if name.endswith("bias")} == {"output.bias"}


@pytest.mark.parametrize(("size", "reduced"), [((8, 12), (2, 3)), ((11, 7), (2, 1))])
def test_a_reduction_gives_one_token_per_complete_cell(size, reduced):
    reduction = SequenceReduction(6, 4)
    x = torch.randn(2, *size, 6)
    y = reduction(x)
    assert y.shape == (2, *reduced, 6)
    torch.testing.assert_close(reduction(x[:, : reduced[0] * 4, : reduced[1] * 4]), y)


def test_reduced_attention_has_full_queries_and_reduced_keys_and_values():
    attention = ReducedAttention(6, 2, 2)
    x = torch.randn(2, 4, 6, 6)
    expected = loop_attention(attention, x.flatten(1, 2), attention.reduction(x).flatten(1, 2))
    torch.testing.assert_close(attention(x), expected.view(2, 4, 6, 6))


def test_a_ratio_of_one_is_full_attention():
    attention = ReducedAttention(6, 2, 1)
    x = torch.randn(2, 4, 5, 6)
    tokens = x.flatten(1, 2)
    torch.testing.assert_close(
        attention(x).flatten(1, 2), loop_attention(attention, tokens, tokens)
    )
    assert not any(name.startswith("reduction") for name in attention.state_dict())


def test_single_head_attention_equals_one_softmax():
    attention = Attention(8, 1)
    x = torch.randn(1, 5, 8)
    query, key, value = attention.query(x), attention.key(x), attention.value(x)
    weights = torch.zeros(5, 5)
    for i in range(5):
        for j in range(5):
            weights[i, j] = (query[0, i] @ key[0, j] / 8**0.5).exp()
    weights = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(attention(x), attention.output(weights @ value))
    torch.testing.assert_close(attention_weights(query, key)[0], weights)


def test_different_queries_get_different_outputs():
    attention = Attention(12, 3)
    y = attention(torch.randn(1, 6, 12))
    assert (y[0, 0] - y[0, 1:]).abs().amax(-1).min() > 1e-4


def test_heads_split_the_channels_not_the_tokens():
    attention = Attention(12, 3)
    x = torch.randn(1, 7, 12)  # 7 is not a multiple of the number of heads
    assert attention(x).shape == x.shape
    assert attention.weights(x).shape == (1, 3, 7, 7)


@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_a_masked_key_gets_no_attention(kind):
    attention = Attention(12, 3)
    x = torch.randn(2, 6, 12)
    keep = torch.tensor([[1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1]], dtype=torch.bool)
    mask = keep[:, None, None]
    if kind == "additive":
        mask = torch.zeros(2, 1, 1, 6).masked_fill(~mask, -torch.inf)
    weights = attention.weights(x, mask)
    assert (weights.transpose(1, 3)[~keep] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 6))
    y = attention(x, mask)
    for image in range(2):
        kept = x[image : image + 1, keep[image]]
        torch.testing.assert_close(
            y[image : image + 1], attention.attend(x[image : image + 1], kept)
        )


def visible(query, key, grid, prefix, axis):
    """Whether axial attention lets one token attend to another, by their numbers."""
    if query < prefix or key < prefix:
        return True
    query_place, key_place = (divmod(token - prefix, grid[1]) for token in (query, key))
    return query_place[2 - axis] == key_place[2 - axis]


def loop_along_axis(attention, x, grid, prefix, keep):
    """Compute attention along an axis for one image, one head and one query at a time."""
    width = attention.query.out_features // attention.num_heads
    query, key, value = attention.query(x), attention.key(x), attention.value(x)
    heads = torch.zeros_like(query)
    for image in range(x.shape[0]):
        for token in range(x.shape[1]):
            seen = [
                other
                for other in range(x.shape[1])
                if visible(token, other, grid, prefix, attention.axis) and keep[image, other]
            ]
            for head in range(attention.num_heads):
                part = slice(head * width, (head + 1) * width)
                logits = key[image, seen, part] @ query[image, token, part] / width**0.5
                heads[image, token, part] = logits.softmax(0) @ value[image, seen, part]
    return attention.output(heads)


def lines_with_a_key(size, grid, prefix):
    """Return a random mask that leaves a key in every row and column."""
    keep = torch.rand(size, prefix + grid[0] * grid[1]) < 0.6
    patches = keep[:, prefix:].unflatten(1, grid)
    patches[:, 0] = patches[:, :, 0] = True
    return keep


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_attention_along_an_axis_equals_a_loop_over_the_tokens(axis, masked, prefix):
    attention, grid = AxisAttention(12, 3, axis, head_dim=5), (4, 3)
    x = torch.randn(2, prefix + 12, 12)
    keep = lines_with_a_key(2, grid, prefix) if masked else torch.ones(2, prefix + 12) > 0
    mask = GridMask(grid, keep if masked else None)
    expected = loop_along_axis(attention, x, grid, prefix, keep)
    torch.testing.assert_close(attention(x, mask), expected)

    weights = attention.weights(x, mask)
    assert weights.shape == (2, 3, prefix + 12, prefix + 12)
    value = split_heads(attention.value(x), 3)
    torch.testing.assert_close(attention.output(join_heads(weights @ value)), expected)
    for query in range(prefix + 12):
        for key in range(prefix + 12):
            seen = keep[:, key] & visible(query, key, grid, prefix, axis)
            assert ((weights[:, :, query, key] > 0).all(1) == seen).all()


def test_axial_attention_goes_along_the_height_and_then_along_the_width():
    attention, mask = AxialAttention(12, 3, qkv_bias=False), GridMask((4, 5))
    x = torch.randn(2, 1 + 4 * 5, 12)
    torch.testing.assert_close(attention(x, mask), attention.width(attention.height(x, mask), mask))
    assert (attention.height.axis, attention.width.axis) == (1, 2)
    assert attention.height.query.bias is None


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("changed", [0, 7])
def test_after_both_axes_each_token_depends_on_every_token(prefix, changed):
    attention, mask = AxialAttention(12, 3), GridMask((4, 5))
    x = torch.randn(1, prefix + 4 * 5, 12)
    before = attention(x, mask)
    x[0, changed] += 10
    assert ((attention(x, mask) - before).abs().amax(-1) > 0).all()


def test_the_weights_of_reduced_attention_are_over_the_reduced_grid():
    attention = ReducedAttention(6, 2, 2)
    x = torch.randn(2, 4, 6, 6)
    context = attention.reduction(x).flatten(1, 2)
    weights = attention.weights(x)
    assert weights.shape == (2, 2, 24, 6)
    value = split_heads(attention.value(context), 2)
    mixed = attention.output(join_heads(weights @ value)).view(x.shape)
    torch.testing.assert_close(attention(x), mixed)


def test_a_reduction_applies_the_convolution_to_channels():
    reduction = SequenceReduction(6, 2)
    x = torch.randn(1, 4, 4, 6)
    cell = x[0, 2:4, 0:2]  # (2, 2, 6)
    summed = torch.einsum("ocij,ijc->o", reduction.convolution.weight, cell)
    expected = reduction.norm(summed + reduction.convolution.bias)
    torch.testing.assert_close(reduction(x)[0, 1, 0], expected)
