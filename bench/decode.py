"""Measures what a 12-megapixel JPEG costs decoded exactly and scaled, and whether answers change.

    python -m bench.decode [CHECKPOINT PHOTO...]

The bundled classifier on enlarged scenes; one given with photographs, on these: each whole and
cut at its corners, mirrored and not, so that twelve make 120.
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
KEPT = 0.85  # of each side, in a cut
GRAIN = 4.0  # standard deviation of what an enlarged picture lacks and a camera's has
ASKED, TURNS = 12, 5  # files that the service is asked about, and how often
WAYS = ("exact", "scaled")


class Compared(NamedTuple):
    """One file both ways: the seconds and the scores (num_labels,) of each."""

    seconds: dict[str, float]
    scores: dict[str, Tensor]


def scenes() -> Iterator[Image.Image]:
    """What the bundled classifier has not seen, in the shape of a photograph."""
    for index in range(SCENES):
        yield Image.fromarray(draw_scene(UNSEEN_SEED, index).image).resize((160, 120))


def cuts(photos: Iterable[Path]) -> Iterator[Image.Image]:
    """Ten pictures of each photograph."""
    for path, mirrored, corner in product(photos, (False, True), range(5)):
        with Image.open(path) as file:
            image = to_rgb(file)
        if mirrored:
            image = ImageOps.mirror(image)
        if corner:
            width, height = int(KEPT * image.width), int(KEPT * image.height)
            left = image.width - width if corner in (2, 4) else 0
            top = image.height - height if corner in (3, 4) else 0
            image = image.crop((left, top, left + width, top + height))
        yield image


def enlarged(image: Image.Image, grain: float) -> bytes:
    """A JPEG file of the picture at 12 megapixels."""
    scale = (PIXELS / (image.width * image.height)) ** 0.5
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC)
    if grain:
        noise = Image.effect_noise(size, grain)  # around 128
        image = ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-128)
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


@torch.inference_mode()
def compare(data: bytes, loaded: Checkpoint) -> Compared:
    """Decode a file both ways, on the clock, and classify it with the plain network."""
    seconds, scores = {}, {}
    for way in WAYS:
        began = time.process_time()
        photo = decode(data, loaded.preprocessing, max_pixels=2 * PIXELS, scaled=way == "scaled")
        seconds[way] = time.process_time() - began
        pixels = normalize(torch.from_numpy(photo.pixels.copy())[None], loaded.preprocessing)
        scores[way] = loaded.network(pixels)[0].softmax(0)
    return Compared(seconds, scores)


async def processor_seconds(client: httpx.AsyncClient) -> float:
    """What the service has used so far, by its own account."""
    found = re.search(
        r"^process_cpu_seconds_total (\S+)", (await client.get("/metrics")).text, re.M
    )
    assert found  # noqa: S101  # Linux has it
    return float(found[1])


async def request_seconds(source: str, way: str, files: list[bytes]) -> float:
    """The processor time of one POST /classify, all of the service."""
    flags = ("--classifier", source, "--segmenter", "none", "--jpeg-decode", way)
    async with serving(*flags) as client:
        for data in files[:2]:
            (await client.post("/classify", content=data)).raise_for_status()
        before = await processor_seconds(client)
        for data in files * TURNS:
            (await client.post("/classify", content=data)).raise_for_status()
        return (await processor_seconds(client) - before) / len(files) / TURNS


def row(source: str | Path, pictures: Iterator[Image.Image], grain: float, what: str) -> str:
    """One line of the table."""
    loaded = checkpoint.load(source)
    compared, asked, size = list[Compared](), list[bytes](), 0
    for image in pictures:
        data = enlarged(image, grain)
        size += len(data)
        compared.append(compare(data, loaded))
        asked += [data] if len(asked) < ASKED else []
    pairs = [(one.scores["exact"], one.scores["scaled"]) for one in compared]
    same = [bool(exact.argmax() == scaled.argmax()) for exact, scaled in pairs]
    worst = max((exact - scaled).abs().max().item() for exact, scaled in pairs)
    ms = {way: 1e3 * statistics.mean(one.seconds[way] for one in compared) for way in WAYS}
    whole = {way: 1e3 * asyncio.run(request_seconds(str(source), way, asked)) for way in WAYS}
    return (
        f"| {loaded.name} | {len(same)} {what} | {size / len(same) / 1e6:.1f} MB | "
        f"{ms['exact']:.0f} ms | {ms['scaled']:.0f} ms | {ms['scaled'] / ms['exact']:.2f} | "
        f"{whole['exact']:.0f} ms | {whole['scaled']:.0f} ms | "
        f"{whole['scaled'] / whole['exact']:.2f} | {sum(same) / len(same):.1%} | {worst:.3f} |"
    )


def main(*arguments: str) -> None:
    """Print the table and keep it."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as the service does
    lines = [
        "# JPEGs of 12 megapixels, decoded exactly and scaled",
        "",
        f"{machine.cpu()}; processor time. Decoding includes the resize to the network's input; a "
        "request is all that the service spends on one `POST /classify`, network included. Scores "
        f"are the plain network's. Grain: noise of standard deviation {GRAIN:g} over each picture, "
        "for an enlarged one is smoother than a camera's.",
        "",
        "| checkpoint | pictures | file | exact | scaled | ratio | request, exact "
        "| request, scaled | ratio | same label | a score off by at most |",
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
