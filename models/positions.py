"""Position embeddings, and their resampling to another grid.

Knows nothing of the tokens they are added to.
"""

from torch import Tensor
from torch.nn.functional import interpolate

Grid = tuple[int, int]  # rows, columns


def resample(positions: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Carry positions learned on one grid over to another, by bicubic interpolation.

    positions: (1, rows * columns, D) of any floating dtype, row by row; computed in float32, as
    half precision loses the third digit. Returns (1, new rows * new columns, D) in the given dtype,
    and the very same tensor when the grids are equal. As in ViT (arXiv:2010.11929, section 3.2),
    with half-pixel centres and no antialiasing, like the reference implementations.
    """
    if grid == new_grid:
        return positions
    image = positions.float().unflatten(1, grid).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    image = interpolate(image, new_grid, mode="bicubic", align_corners=False)
    return image.flatten(2).transpose(1, 2).to(positions.dtype)  # (1, new rows * new columns, D)
