import pytest
import torch

from models.attention import Attention, ReducedAttention, SequenceReduction, join_heads, split_heads


def by_the_book(attention, x, context):
    """Softmax(Q K^T / sqrt(d)) V, head by head, in loops."""
    outputs = []
    width = x.shape[-1] // attention.num_heads
    query, key, value = attention.query(x), attention.key(context), attention.value(context)
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (query[..., part] @ key[..., part].mT / width**0.5).softmax(-1)
        outputs.append(weights @ value[..., part])
    return attention.output(torch.cat(outputs, dim=-1))


def test_attention_is_the_formula_of_the_paper():
    attention = Attention(12, 3)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(attention(x), by_the_book(attention, x, x))


def test_the_tokens_that_answer_may_be_others_than_those_that_ask():
    attention = Attention(12, 3)
    x, context = torch.randn(2, 7, 12), torch.randn(2, 4, 12)
    torch.testing.assert_close(attention.attend(x, context), by_the_book(attention, x, context))


def test_splitting_and_joining_heads_are_inverse():
    x = torch.randn(2, 5, 12)
    assert split_heads(x, 4).shape == (2, 4, 5, 3)
    assert torch.equal(join_heads(split_heads(x, 4)), x)


def test_query_key_and_value_can_do_without_bias():
    names = {name for name, _ in Attention(8, 2, qkv_bias=False).named_parameters()}
    assert {name for name in names if name.endswith("bias")} == {"output.bias"}


@pytest.mark.parametrize(("size", "reduced"), [((8, 12), (2, 3)), ((11, 7), (2, 1))])
def test_a_reduction_gives_one_token_for_each_whole_cell(size, reduced):
    reduction = SequenceReduction(6, 4)
    x = torch.randn(2, *size, 6)
    y = reduction(x)
    assert y.shape == (2, *reduced, 6)
    torch.testing.assert_close(reduction(x[:, : reduced[0] * 4, : reduced[1] * 4]), y)


def test_reduced_attention_asks_with_every_token_and_answers_with_the_reduced():
    attention = ReducedAttention(6, 2, 2)
    x = torch.randn(2, 4, 6, 6)
    expected = by_the_book(attention, x.flatten(1, 2), attention.reduction(x).flatten(1, 2))
    torch.testing.assert_close(attention(x), expected.view(2, 4, 6, 6))


def test_a_ratio_of_one_is_full_attention():
    attention = ReducedAttention(6, 2, 1)
    x = torch.randn(2, 4, 5, 6)
    tokens = x.flatten(1, 2)
    torch.testing.assert_close(attention(x).flatten(1, 2), by_the_book(attention, tokens, tokens))
    assert not any(name.startswith("reduction") for name in attention.state_dict())
