import itertools
import math

import pytest
import torch
from torch import nn

from models.layers.positions import RelativeBias, resample, sinusoid_1d, sinusoid_2d


def test_the_same_grid_returns_the_same_tensor():
    positions = torch.randn(1, 12, 4)
    assert resample(positions, (3, 4), (3, 4)) is positions


def test_resampling_does_not_swap_rows_and_columns():
    ramp = torch.arange(6.0).view(1, 6, 1) // 3  # 2 rows of 3: the row's number
    taller = resample(ramp, (2, 3), (4, 3)).view(4, 3)
    assert (taller.diff(dim=0) > 0).all()
    torch.testing.assert_close(taller, taller[:, :1].expand(4, 3))


def test_resampling_keeps_constants_and_commutes_with_mirroring():
    flat = torch.full((1, 20, 3), 2.5)
    torch.testing.assert_close(resample(flat, (4, 5), (9, 3)), flat[:, :1].expand(1, 27, 3))
    image = torch.randn(1, 5, 6, 2)
    turned = resample(image.flip(1, 2).flatten(1, 2), (5, 6), (8, 7)).view(1, 8, 7, 2).flip(1, 2)
    torch.testing.assert_close(
        resample(image.flatten(1, 2), (5, 6), (8, 7)).view(1, 8, 7, 2), turned
    )


def test_half_precision_positions_are_resampled_in_float32():
    positions = torch.randn(1, 16, 8)
    half = resample(positions.bfloat16(), (4, 4), (7, 5))
    assert half.dtype == torch.bfloat16
    exact = resample(positions.bfloat16().float(), (4, 4), (7, 5))
    assert torch.equal(half, exact.bfloat16())


def test_the_1d_table_equals_its_formula():
    table = sinusoid_1d(50, 12)
    for n in (0, 1, 7, 49):
        for i in range(6):
            angle = n / 10_000 ** (2 * i / 12)
            assert table[n, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[n, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_first_channels_of_the_sinusoid_have_the_highest_frequency():
    table = sinusoid_1d(200, 32)
    turns = (table.diff(dim=0).sign().diff(dim=0) != 0).sum(0)
    assert turns[0] > 60  # a wavelength of 2 pi tokens
    assert turns[-2] == 0


def test_the_2d_table_equals_its_formula():
    table = sinusoid_2d((3, 5), 16).view(3, 5, 16)
    for y, x, k in itertools.product(range(3), range(5), range(4)):
        pace = 10_000 ** (-k / 3)
        expected = [math.sin(x * pace), math.cos(x * pace), math.sin(y * pace), math.cos(y * pace)]
        assert table[y, x, k::4].tolist() == pytest.approx(expected, abs=1e-6)


def test_similarity_of_sinusoids_depends_on_the_displacement_alone():
    table = sinusoid_2d((6, 9), 16).view(6, 9, 16)
    likeness = [(table[y, x] * table[y + 1, x + 2]).sum() for y in range(5) for x in range(7)]
    torch.testing.assert_close(torch.stack(likeness), likeness[0].expand(35))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: sinusoid_1d(4, 7), "need an even width, not 7"),
        (lambda: sinusoid_2d((2, 2), 10), "a multiple of 4, not 10"),
        (lambda: sinusoid_2d((2, 2), 4), "at least 8 that is a multiple of 4, not 4"),
    ],
)
def test_unsupported_widths_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        table()


def bias_of(num_prefix_tokens, grid=(3, 4)):
    bias = RelativeBias(grid, 2, num_prefix_tokens)
    for parameter in bias.parameters():
        nn.init.normal_(parameter)
    return bias


def test_a_relative_bias_depends_on_the_displacement_alone():
    bias = bias_of(0)
    table = bias((3, 4)).view(2, 3, 4, 3, 4)
    for y, x, v, u in itertools.product(range(3), range(4), range(3), range(4)):
        assert torch.equal(table[:, y, x, v, u], bias.table[:, y - v + 2, x - u + 3])


@pytest.mark.parametrize("prefix", [1, 2])
def test_pairs_with_prefix_tokens_have_three_separate_biases(prefix):
    bias = bias_of(prefix)
    table = bias((3, 4))
    assert table.shape == (1, 2, prefix + 12, prefix + 12)
    for head in range(2):
        start, end, among = bias.prefix[head]
        assert (table[0, head, :prefix, prefix:] == start).all()
        assert (table[0, head, prefix:, :prefix] == end).all()
        assert (table[0, head, :prefix, :prefix] == among).all()
    without = bias_of(0)
    without.table = bias.table
    assert torch.equal(table[:, :, prefix:, prefix:], without((3, 4)))


def test_another_grid_resamples_the_bias_table_around_its_centre():
    bias = bias_of(0)
    larger = bias((6, 8)).view(2, 6, 8, 6, 8)
    torch.testing.assert_close(larger[:, 1, 2, 1, 2], larger[:, 4, 5, 4, 5])
    torch.testing.assert_close(larger[:, 0, 0, 0, 0], bias.table[:, 2, 3])
    bias.bfloat16()
    assert bias((6, 8)).dtype == torch.bfloat16
