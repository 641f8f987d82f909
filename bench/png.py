"""Measures ways to compress masks as PNGs: zlib's levels and strategies, and bits for a pixel.

Label maps are those of smooth logits and of ragged ones, by one thread.
"""

import statistics
import time
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.nn.functional import interpolate

from app.imaging.masks import COMPRESSION, LabelMap, palette
from bench.common import machine
from models.label_map import label_map

RESULTS = Path(__file__).parent / "results" / "png.md"
SIZES = ((480, 640), (3000, 4000))
CLASSES = (3, 21, 150)
RAGGED = 0.4  # of the logits' standard deviation
LEVELS = (0, 1, 2, 3, 4, 6, 9)
STRATEGIES = ("default", "filtered", "huffman", "runs", "fixed")  # zlib's, in its order
OURS = (8, COMPRESSION["compress_level"], COMPRESSION["compress_type"])
ROUNDS = 3
LONG_S = 0.5  # measured once


class Way(NamedTuple):
    """How to compress."""

    bits: int
    level: int
    strategy: int

    def __str__(self) -> str:
        return f"{self.bits} bits, level {self.level}, {STRATEGIES[self.strategy]}"


class Cost(NamedTuple):
    """What it takes."""

    ms: float
    kilobytes: float

    def __str__(self) -> str:
        return f"{self.ms:.1f} ms, {self.kilobytes:.0f} kB"


def ways(classes: int) -> list[Way]:
    """All that make sense: levels differ little but for two of the strategies."""
    bits = [bits for bits in (2, 4, 8) if classes <= 1 << bits]
    return [
        Way(*way)
        for way in product(bits, LEVELS, range(len(STRATEGIES)))
        if (way[1] and way[1] <= 3) or way[2] == 0
    ]


def maps(classes: int, size: tuple[int, int]) -> Iterator[tuple[str, LabelMap]]:
    """Label maps of smooth regions, and of regions whose borders are ragged."""
    smooth = interpolate(torch.randn(1, classes, 16, 16), (128, 128), mode="bicubic")[0]
    yield "smooth", label_map(smooth, size).numpy()
    yield "ragged", label_map(smooth + RAGGED * torch.randn_like(smooth), size).numpy()


def measure(labels: LabelMap, way: Way) -> Cost:
    """The processor time of a PNG file, and its size."""
    image = Image.fromarray(labels)
    image.putpalette(palette(1 << way.bits).tobytes())
    taken: list[float] = []
    while len(taken) < ROUNDS and sum(taken) < LONG_S:
        file = BytesIO()
        began = time.process_time()
        image.save(file, "PNG", bits=way.bits, compress_level=way.level, compress_type=way.strategy)
        taken.append(time.process_time() - began)
    return Cost(1e3 * statistics.median(taken), len(file.getvalue()) / 1e3)


def row(kind: str, labels: LabelMap, classes: int) -> str:
    """One line of the table."""
    costs = {way: measure(labels, way) for way in ways(classes)}
    ours = costs[Way(*OURS)]
    plain, usual = costs[Way(8, 1, 0)], costs[Way(8, 6, 0)]
    packed = [f"{cost}" for way, cost in costs.items() if way[1:] == OURS[1:] and way.bits < 8]
    compressed = {way: cost for way, cost in costs.items() if way.level}
    fastest = min(compressed, key=lambda way: compressed[way].ms)
    smallest = min(compressed, key=lambda way: compressed[way].kilobytes)
    height, width = labels.shape
    return (
        f"| {kind}, {classes} | {width} x {height} | {usual} | {plain} | {ours} | "
        f"{'; '.join(packed)} | {fastest}: {costs[fastest]} | {smallest}: {costs[smallest]} |"
    )


def main() -> None:
    """Print the table and keep it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    lines = [
        "# Masks as PNGs",
        "",
        f"{machine.cpu()}, processor time of one thread. Ours is {Way(*OURS)}; the filter is "
        "always none, as Pillow has it for palettes.",
        "",
        "| map, classes | size | level 6, Pillow's default | level 1 | ours | ours, packed "
        "| fastest | smallest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for size, classes in product(SIZES, CLASSES):
        for kind, labels in maps(classes, size):
            lines.append(row(kind, labels, classes))
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
