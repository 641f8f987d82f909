import pytest
import torch

from models.runtimes.optimize.decoder import (
    EmbeddingBagUpsampling,
    Upsampling,
    fold_decode_head,
    interpolation_table,
    upsample_by_embedding_bag,
)

GRIDS = [
    ((8, 12), [(4, 6), (2, 3)]),
    ((128, 128), [(64, 64), (32, 32), (16, 16)]),
    ((33, 47), [(17, 24), (9, 12), (5, 6)]),
    ((5, 7), [(1, 1)]),
    ((3, 3), [(4, 5)]),  # downsampling
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("grid", "coarser"), GRIDS)
def test_embedding_bag_upsampling_equals_the_sum_of_interpolations(grid, coarser, batch):
    levels = [torch.randn(batch, *size, 10) for size in coarser]
    ours, plain = EmbeddingBagUpsampling()(levels, grid), Upsampling()(levels, grid)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("grid", "coarser"), GRIDS)
def test_interpolation_weights_sum_to_the_number_of_levels(grid, coarser):
    index, weights = interpolation_table(grid, tuple(coarser), torch.float32, torch.device("cpu"))
    assert index.shape == weights.shape == (grid[0] * grid[1], 4 * len(coarser))
    torch.testing.assert_close(weights.sum(dim=1), torch.full((len(weights),), float(len(coarser))))


def test_upsampling_in_bfloat16_is_exact_up_to_rounding():
    levels = [torch.randn(2, 8, 8, 16, dtype=torch.bfloat16) for _ in range(2)]
    ours = EmbeddingBagUpsampling()(levels, (16, 16)).float()
    plain = Upsampling()([level.float() for level in levels], (16, 16))
    assert (ours - plain).abs().max() <= 2**-7 * plain.abs().max()


def test_the_decode_head_upsamples_by_embedding_bag(network, assert_same):
    plain = network("SegFormer")
    rewritten = upsample_by_embedding_bag(fold_decode_head(plain))
    assert isinstance(rewritten.decoder.upsampling, EmbeddingBagUpsampling)
    assert_same(rewritten, plain)
