import pytest
import torch

from models.runtimes.optimize.decoder import (
    BaggedUpsampling,
    Upsampling,
    bags,
    fold_decode_head,
    upsample_by_bags,
)

GRIDS = [
    ((8, 12), [(4, 6), (2, 3)]),
    ((128, 128), [(64, 64), (32, 32), (16, 16)]),
    ((33, 47), [(17, 24), (9, 12), (5, 6)]),
    ((5, 7), [(1, 1)]),
    ((3, 3), [(4, 5)]),  # downwards, too
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("grid", "coarser"), GRIDS)
def test_bags_sum_what_interpolate_gives_for_every_level(grid, coarser, batch):
    levels = [torch.randn(batch, *size, 10) for size in coarser]
    ours, plain = BaggedUpsampling()(levels, grid), Upsampling()(levels, grid)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("grid", "coarser"), GRIDS)
def test_the_weights_of_a_bag_sum_to_the_number_of_levels(grid, coarser):
    index, weights = bags(grid, tuple(coarser), torch.float32, torch.device("cpu"))
    assert index.shape == weights.shape == (grid[0] * grid[1], 4 * len(coarser))
    torch.testing.assert_close(weights.sum(dim=1), torch.full((len(weights),), float(len(coarser))))


def test_bags_in_bfloat16_lose_no_more_than_its_rounding():
    levels = [torch.randn(2, 8, 8, 16, dtype=torch.bfloat16) for _ in range(2)]
    ours = BaggedUpsampling()(levels, (16, 16)).float()
    plain = Upsampling()([level.float() for level in levels], (16, 16))
    assert (ours - plain).abs().max() <= 2**-7 * plain.abs().max()


def test_the_head_of_a_segformer_upsamples_by_bags(network, assert_same):
    plain = network("SegFormer")
    bagged = upsample_by_bags(fold_decode_head(plain))
    assert isinstance(bagged.decoder.upsampling, BaggedUpsampling)
    assert_same(bagged, plain)
