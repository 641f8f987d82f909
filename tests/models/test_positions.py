import torch

from models.positions import resample


def test_the_same_grid_gives_the_very_same_positions():
    positions = torch.randn(1, 12, 4)
    assert resample(positions, (3, 4), (3, 4)) is positions


def test_rows_and_columns_are_not_confused():
    ramp = torch.arange(6.0).view(1, 6, 1) // 3  # 2 rows of 3: the row's number
    taller = resample(ramp, (2, 3), (4, 3)).view(4, 3)
    assert (taller.diff(dim=0) > 0).all()
    torch.testing.assert_close(taller, taller[:, :1].expand(4, 3))


def test_a_constant_stays_constant_and_a_mirror_image_mirrored():
    flat = torch.full((1, 20, 3), 2.5)
    torch.testing.assert_close(resample(flat, (4, 5), (9, 3)), flat[:, :1].expand(1, 27, 3))
    image = torch.randn(1, 5, 6, 2)
    turned = resample(image.flip(1, 2).flatten(1, 2), (5, 6), (8, 7)).view(1, 8, 7, 2).flip(1, 2)
    torch.testing.assert_close(
        resample(image.flatten(1, 2), (5, 6), (8, 7)).view(1, 8, 7, 2), turned
    )


def test_half_precision_is_resampled_in_single():
    positions = torch.randn(1, 16, 8)
    half = resample(positions.bfloat16(), (4, 4), (7, 5))
    assert half.dtype == torch.bfloat16
    exact = resample(positions.bfloat16().float(), (4, 4), (7, 5))
    assert torch.equal(half, exact.bfloat16())
