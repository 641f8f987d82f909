"""Compares ways to compress masks as PNGs: levels and strategies of zlib, and bits per pixel.

The label maps have smooth or ragged borders; everything runs on one thread.
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

from app.core.types import LabelMap
from app.imaging.distinct_colors import distinct_colors
from app.imaging.masks import COMPRESSION
from bench.common import machine
from models.label_map import label_map

RESULTS = Path(__file__).parent / "results" / "png.md"
SIZES = ((480, 640), (3000, 4000))
CLASSES = (3, 21, 150)
RAGGED = 0.4  # standard deviation of the noise, as a share of the logits' deviation
LEVELS = (0, 1, 2, 3, 4, 6, 9)
STRATEGIES = ("default", "filtered", "huffman", "runs", "fixed")  # of zlib, in its order
OURS = (8, COMPRESSION["compress_level"], COMPRESSION["compress_type"])
ROUNDS = 3
LONG_S = 0.5  # a compression that takes longer is measured once


class PngOptions(NamedTuple):
    """Bits per pixel, and level and strategy of zlib."""

    bits: int
    level: int
    strategy: int

    def __str__(self) -> str:
        return f"{self.bits} bits, level {self.level}, {STRATEGIES[self.strategy]}"


class Cost(NamedTuple):
    """CPU time and file size."""

    ms: float
    kilobytes: float

    def __str__(self) -> str:
        return f"{self.ms:.1f} ms, {self.kilobytes:.0f} kB"


def candidates(classes: int) -> list[PngOptions]:
    """Return the options to try: all strategies at levels 1 to 3, the default one at all levels."""
    bits = [bits for bits in (2, 4, 8) if classes <= 1 << bits]
    return [
        PngOptions(*options)
        for options in product(bits, LEVELS, range(len(STRATEGIES)))
        if (options[1] and options[1] <= 3) or options[2] == 0
    ]


def maps(classes: int, size: tuple[int, int]) -> Iterator[tuple[str, LabelMap]]:
    """Yield label maps with smooth and with ragged borders."""
    smooth = interpolate(torch.randn(1, classes, 16, 16), (128, 128), mode="bicubic")[0]
    yield "smooth", label_map(smooth, size).numpy()
    yield "ragged", label_map(smooth + RAGGED * torch.randn_like(smooth), size).numpy()


def measure(labels: LabelMap, options: PngOptions) -> Cost:
    """Return the CPU time and the size of a PNG file."""
    image = Image.fromarray(labels)
    image.putpalette(distinct_colors(1 << options.bits, ()).tobytes())
    taken: list[float] = []
    while len(taken) < ROUNDS and sum(taken) < LONG_S:
        file = BytesIO()
        began = time.process_time()
        image.save(
            file,
            "PNG",
            bits=options.bits,
            compress_level=options.level,
            compress_type=options.strategy,
        )
        taken.append(time.process_time() - began)
    return Cost(1e3 * statistics.median(taken), len(file.getvalue()) / 1e3)


def row(kind: str, labels: LabelMap, classes: int) -> str:
    """Return one line of the table."""
    costs = {options: measure(labels, options) for options in candidates(classes)}
    ours = costs[PngOptions(*OURS)]
    level_1, pillow = costs[PngOptions(8, 1, 0)], costs[PngOptions(8, 6, 0)]
    packed = [
        f"{cost}" for options, cost in costs.items() if options[1:] == OURS[1:] and options.bits < 8
    ]
    compressed = {options: cost for options, cost in costs.items() if options.level}
    fastest = min(compressed, key=lambda options: compressed[options].ms)
    smallest = min(compressed, key=lambda options: compressed[options].kilobytes)
    height, width = labels.shape
    return (
        f"| {kind}, {classes} | {width} x {height} | {pillow} | {level_1} | {ours} | "
        f"{'; '.join(packed)} | {fastest}: {costs[fastest]} | {smallest}: {costs[smallest]} |"
    )


def main() -> None:
    """Print the table and write it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    lines = [
        "# Masks as PNGs",
        "",
        f"{machine.cpu()}, CPU time of one thread. `ours` are the service's options: "
        f"{PngOptions(*OURS)}. The filter is always none, Pillow's default for palettes.",
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
