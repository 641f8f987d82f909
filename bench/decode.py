"""Measures the cost of decoding 12-megapixel JPEGs, exact and scaled, and whether results change.

    python -m bench.decode [CHECKPOINT PHOTO...]

The bundled classifier runs on enlarged scenes, a given checkpoint on crops of the given
photographs: each one whole and cropped at its four corners, mirrored and not, so ten per
photograph.
"""

import asyncio
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx
import torch
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from app.core.malloc import keep_freed_memory
from app.imaging.decode import decode
from bench.common import machine
from bench.common.service import serving
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import normalize, to_rgb
from models.training.scenes.scene import UNSEEN_SEED, draw_scene

RESULTS = Path(__file__).parent / "results" / "decode.md"
SCENES = 120
PIXELS = 12_000_000
QUALITY = 90
CROP = 0.85  # fraction of each side that a crop keeps
GRAIN = 4.0  # standard deviation of the noise that a camera adds and an enlarged picture lacks
REQUEST_FILES, REPEATS = 12, 5  # files that are sent to the service, and how often
MODES = ("exact", "scaled")


class Comparison(NamedTuple):
    """The seconds and the scores (num_labels,) of one file in both modes."""

    seconds: dict[str, float]
    scores: dict[str, Tensor]


def scenes() -> Iterator[Image.Image]:
    """Yield scenes that are not in the training data, in the shape of a photograph."""
    for index in range(SCENES):
        yield Image.fromarray(draw_scene(UNSEEN_SEED, index).image).resize((160, 120))


def cuts(photos: Iterable[Path]) -> Iterator[Image.Image]:
    """Yield ten pictures of each photograph."""
    for path, mirrored, corner in product(photos, (False, True), range(5)):
        with Image.open(path) as file:
            image = to_rgb(file)
        if mirrored:
            image = ImageOps.mirror(image)
        if corner:
            width, height = int(CROP * image.width), int(CROP * image.height)
            left = image.width - width if corner in (2, 4) else 0
            top = image.height - height if corner in (3, 4) else 0
            image = image.crop((left, top, left + width, top + height))
        yield image


def enlarged(image: Image.Image, grain: float) -> bytes:
    """Return a JPEG file of the picture at 12 megapixels."""
    scale = (PIXELS / (image.width * image.height)) ** 0.5
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC)
    if grain:
        noise = Image.effect_noise(size, grain)  # mean 128
        image = ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-128)
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


@torch.inference_mode()
def compare(data: bytes, loaded: Checkpoint) -> Comparison:
    """Decode a file in both modes, timed, and classify it with the plain network."""
    seconds, scores = {}, {}
    for mode in MODES:
        began = time.process_time()
        photo = decode(data, loaded.preprocessing, max_pixels=2 * PIXELS, scaled=mode == "scaled")
        seconds[mode] = time.process_time() - began
        pixels = normalize(torch.from_numpy(photo.pixels.copy())[None], loaded.preprocessing)
        scores[mode] = loaded.network(pixels)[0].softmax(0)
    return Comparison(seconds, scores)


async def cpu_seconds(client: httpx.AsyncClient) -> float:
    """Return the CPU time of the service so far, from its metrics."""
    metrics = (await client.get("/metrics")).text
    value = re.search(r"^process_cpu_seconds_total (\S+)", metrics, re.M)
    assert value  # noqa: S101  # always present on Linux
    return float(value[1])


async def request_seconds(source: str, mode: str, files: list[bytes]) -> float:
    """Return the CPU time of one POST /classify in the whole service."""
    flags = ("--classifier", source, "--segmenter", "none", "--jpeg-decode", mode)
    async with serving(*flags) as client:
        for data in files[:2]:
            (await client.post("/classify", content=data)).raise_for_status()
        before = await cpu_seconds(client)
        for data in files * REPEATS:
            (await client.post("/classify", content=data)).raise_for_status()
        return (await cpu_seconds(client) - before) / len(files) / REPEATS


def row(source: str | Path, pictures: Iterator[Image.Image], grain: float, kind: str) -> str:
    """Return one line of the table."""
    loaded = checkpoint.load(source)
    compared, request_files, size = list[Comparison](), list[bytes](), 0
    for image in pictures:
        data = enlarged(image, grain)
        size += len(data)
        compared.append(compare(data, loaded))
        request_files += [data] if len(request_files) < REQUEST_FILES else []
    pairs = [(one.scores["exact"], one.scores["scaled"]) for one in compared]
    same = [bool(exact.argmax() == scaled.argmax()) for exact, scaled in pairs]
    worst = max((exact - scaled).abs().max().item() for exact, scaled in pairs)
    ms = {mode: 1e3 * statistics.mean(one.seconds[mode] for one in compared) for mode in MODES}
    request_ms = {
        mode: 1e3 * asyncio.run(request_seconds(str(source), mode, request_files)) for mode in MODES
    }
    return (
        f"| {loaded.name} | {len(same)} {kind} | {size / len(same) / 1e6:.1f} MB | "
        f"{ms['exact']:.0f} ms | {ms['scaled']:.0f} ms | {ms['scaled'] / ms['exact']:.2f} | "
        f"{request_ms['exact']:.0f} ms | {request_ms['scaled']:.0f} ms | "
        f"{request_ms['scaled'] / request_ms['exact']:.2f} | "
        f"{sum(same) / len(same):.1%} | {worst:.3f} |"
    )


def main(*arguments: str) -> None:
    """Print the table and write it."""
    torch.set_num_threads(1)
    keep_freed_memory()  # like the service
    lines = [
        "# JPEGs of 12 megapixels, decoded exactly and scaled",
        "",
        f"{machine.cpu()}; CPU time. Decoding includes the resize to the network's input. A "
        "request is one `POST /classify` in the whole service, network included. Scores come from "
        f"the plain network. Grain: noise of standard deviation {GRAIN:g} is added to each "
        "picture, because an enlarged picture is smoother than a photograph.",
        "",
        "| checkpoint | pictures | file | decoding, exact | decoding, scaled | ratio "
        "| request, exact | request, scaled | ratio | same label | largest difference of a score |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for grain in (0.0, GRAIN):
        kind = "with grain" if grain else ""
        lines.append(row(checkpoint.bundled("classify"), scenes(), grain, f"scenes {kind}".strip()))
        print(lines[-1], flush=True)
        if arguments:
            source, *photos = arguments
            pictures = cuts(map(Path, photos))
            lines.append(row(source, pictures, grain, f"photographs {kind}".strip()))
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
