"""Where a token is: position embeddings, learned and computed, and a bias by relative position.

Knows nothing of the tokens or attention weights that they are added to.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

Grid = tuple[int, int]  # rows, columns
KINDS = ("learned", "sinusoidal_1d", "sinusoidal_2d", "relative")


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


@lru_cache(maxsize=8)
def sinusoid_1d(length: int, width: int) -> Tensor:
    """Sines and cosines of the index, interleaved, (length, width) ("Attention is all you need").

    Entry (n, 2 i) is sin(n / 10000^(2 i / width)), entry (n, 2 i + 1) the cosine; float32, computed
    in double precision, and kept: not to be changed. ValueError for an odd width.
    """
    if width % 2:
        raise ValueError(f"sinusoidal positions need an even width, not {width}")
    pace = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * pace  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


@lru_cache(maxsize=8)
def sinusoid_2d(grid: Grid, width: int) -> Tensor:
    """Sines and cosines of column and row, (rows * columns, width), as in MoCo v3 and big_vision.

    The quarters of the width are sin(x w), cos(x w), sin(y w), cos(y w) with
    w = 10000^(-k / (width / 4 - 1)), k = 0 ... width / 4 - 1; float32, computed in double
    precision, and kept: not to be changed. ValueError for a width that is no multiple of 4, or
    less than 8.
    """
    if width % 4 or width < 8:
        raise ValueError(f"2-D sinusoidal positions need a multiple of 4 from 8 on, not {width}")
    k = torch.arange(width // 4, dtype=torch.float64)
    pace = 10_000.0 ** (-k / (width // 4 - 1))
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    across, down = x.reshape(-1, 1) * pace, y.reshape(-1, 1) * pace  # each (N, width / 4)
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1).float()


class RelativeBias(nn.Module):
    """A learned number per head and displacement, added to the attention logits.

    `forward(grid)` gives (1, heads, K + N, K + N): for two patches that of their displacement
    in rows and columns, the table being resampled when the grid is not the trained one; for
    each pair with one of the K prefix tokens one of three numbers: from it, to it, among them.
    The table is Swin's (arXiv:2103.14030, section 3.2), shared by all layers as in T5; the three
    numbers are BEiT's (arXiv:2106.08254).
    """

    def __init__(self, grid: Grid, num_heads: int, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        rows, columns = grid
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * rows - 1, 2 * columns - 1))
        if num_prefix_tokens:
            self.prefix = nn.Parameter(torch.zeros(num_heads, 3))  # from, to, among

    def forward(self, grid: Grid) -> Tensor:
        rows, columns = grid
        table, size = self.table[None], (2 * rows - 1, 2 * columns - 1)
        if table.shape[2:] != size:
            resampled = interpolate(table.float(), size, mode="bicubic", align_corners=False)
            table = resampled.to(table.dtype)  # (1, heads, 2 rows - 1, 2 columns - 1)
        y, x = (torch.arange(n, device=table.device) for n in grid)
        down = (y[:, None] - y + rows - 1)[:, None, :, None]  # (rows, 1, rows, 1)
        across = (x[:, None] - x + columns - 1)[None, :, None, :]  # (1, columns, 1, columns)
        bias = table[:, :, down, across]  # (1, heads, rows, columns, rows, columns)
        bias = bias.flatten(4, 5).flatten(2, 3)  # (1, heads, N, N)
        K = self.num_prefix_tokens
        return self.with_prefix(bias, K) if K else bias  # (1, heads, K + N, K + N)

    def with_prefix(self, bias: Tensor, K: int) -> Tensor:
        """Put K rows and columns for the prefix tokens before those of the patches."""
        bias = pad(bias, (K, 0, K, 0))
        start, end, among = self.prefix.view(1, -1, 3, 1, 1).unbind(2)  # each (1, heads, 1, 1)
        bias[:, :, :K, K:] = start
        bias[:, :, K:, :K] = end
        bias[:, :, :K, :K] = among
        return bias
