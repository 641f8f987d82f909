"""Position embeddings, learned and sinusoidal, and a relative position bias."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

Grid = tuple[int, int]  # rows, columns
KINDS = ("learned", "sinusoidal_1d", "sinusoidal_2d", "relative")


def resample(positions: Tensor, grid: Grid, new_grid: Grid, *, antialias: bool = False) -> Tensor:
    """Resample learned position embeddings for another grid, by bicubic interpolation.

    As in ViT (arXiv:2010.11929, section 3.2), with half-pixel centers, like the reference
    implementations. Most of them have no antialiasing.

    Args:
        positions: (1, rows * columns, D) of any floating dtype, row by row.
        grid: rows and columns of these positions.
        new_grid: rows and columns to resample for.
        antialias: whether the filter is as wide as a step of a coarser new grid.

    Returns:
        (1, new rows * new columns, D) of the same dtype, computed in float32 because half precision
        loses the third digit; `positions` itself if the grids are equal.
    """
    if grid == new_grid:
        return positions
    image = positions.float().unflatten(1, grid).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    image = interpolate(image, new_grid, mode="bicubic", align_corners=False, antialias=antialias)
    return image.flatten(2).transpose(1, 2).to(positions.dtype)  # (1, new rows * new columns, D)


@lru_cache(maxsize=8)
def sinusoid_1d(length: int, width: int) -> Tensor:
    """Return the sinusoidal table (length, width) of "Attention is all you need" (1706.03762).

    Entry (n, 2 i) is sin(n / 10000^(2 i / width)), entry (n, 2 i + 1) the cosine; float32, computed
    in float64. The tensor is cached: callers must not modify it.

    Raises:
        ValueError: the width is odd.
    """
    if width % 2:
        raise ValueError(f"sinusoidal positions need an even width, not {width}")
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


@lru_cache(maxsize=8)
def sinusoid_2d(grid: Grid, width: int) -> Tensor:
    """Return the 2-D sinusoidal table (rows * columns, width) of MoCo v3 and big_vision.

    For column x and row y, the quarters of the width are sin(x w), cos(x w), sin(y w), cos(y w)
    with w = 10000^(-k / (width / 4 - 1)), k = 0 ... width / 4 - 1; float32, computed in float64.
    The tensor is cached: callers must not modify it.

    Raises:
        ValueError: the width is not a multiple of 4, or less than 8.
    """
    if width % 4 or width < 8:
        raise ValueError(
            f"2-D sinusoidal positions need a width of at least 8 that is a multiple of 4,"
            f" not {width}"
        )
    k = torch.arange(width // 4, dtype=torch.float64)
    frequency = 10_000.0 ** (-k / (width // 4 - 1))
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    x, y = x.reshape(-1, 1) * frequency, y.reshape(-1, 1) * frequency  # each (N, width / 4)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1).float()  # (N, width)


class RelativeBias(nn.Module):
    """Relative position bias: a learned number per head and displacement, for attention logits.

    `forward(grid)` gives (1, heads, K + N, K + N). The bias of two patches is the table's entry for
    their displacement in rows and columns; the table is resampled for a grid other than the grid of
    training. A pair with one of the K prefix tokens has one of three numbers: from a prefix token,
    to a prefix token, between prefix tokens. The table comes from Swin (arXiv:2103.14030,
    section 3.2), and all layers share it as in T5. The three numbers come from BEiT
    (arXiv:2106.08254).
    """

    def __init__(self, grid: Grid, num_heads: int, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        rows, columns = grid
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * rows - 1, 2 * columns - 1))
        if num_prefix_tokens:
            self.prefix = nn.Parameter(torch.zeros(num_heads, 3))  # from, to, between

    def forward(self, grid: Grid) -> Tensor:
        rows, columns = grid
        table, size = self.table[None], (2 * rows - 1, 2 * columns - 1)
        if table.shape[2:] != size:
            resampled = interpolate(table.float(), size, mode="bicubic", align_corners=False)
            table = resampled.to(table.dtype)  # (1, heads, 2 rows - 1, 2 columns - 1)
        y, x = (torch.arange(n, device=table.device) for n in grid)
        dy = (y[:, None] - y + rows - 1)[:, None, :, None]  # (rows, 1, rows, 1)
        dx = (x[:, None] - x + columns - 1)[None, :, None, :]  # (1, columns, 1, columns)
        bias = table[:, :, dy, dx]  # (1, heads, rows, columns, rows, columns)
        bias = bias.flatten(4, 5).flatten(2, 3)  # (1, heads, N, N)
        K = self.num_prefix_tokens
        return self.with_prefix(bias, K) if K else bias  # (1, heads, K + N, K + N)

    def with_prefix(self, bias: Tensor, K: int) -> Tensor:
        """Prepend K rows and columns for the prefix tokens to the bias of the patches."""
        bias = pad(bias, (K, 0, K, 0))  # (1, heads, K + N, K + N)
        from_prefix, to_prefix, between = self.prefix.view(1, -1, 3, 1, 1).unbind(2)
        bias[:, :, :K, K:] = from_prefix  # each of the three is (1, heads, 1, 1)
        bias[:, :, K:, :K] = to_prefix
        bias[:, :, :K, :K] = between
        return bias
