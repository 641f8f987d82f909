"""Measures what the service does under load: batch sizes, latencies, and probes while it is busy.

Starts the real service on a random checkpoint in a folder of its own; bounded in count and time.
"""

import asyncio
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image

from bench.machine import cpu
from bench.service import serving
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing
from models.vit import ViT, ViTConfig

RESULTS = Path(__file__).parent / "results" / "load.md"
CLIENTS = 32
SECONDS = 15.0
PROBES = 100
PROBE_INTERVAL_S = 0.05
SMALL = ViTConfig(
    hidden_size=64, num_layers=2, num_heads=2, mlp_size=256, patch_size=32, num_labels=1000
)
BASE = ViTConfig()


def photographs(count: int) -> list[bytes]:
    """JPEG files of 224 x 224, as large as the networks ask for, and smooth as photographs are."""
    files = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
        file = BytesIO()
        Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC).save(file, "JPEG")
        files.append(file.getvalue())
    return files


@asynccontextmanager
async def serving_random(config: ViTConfig) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real service on a random checkpoint of this shape."""
    torch.manual_seed(0)
    labels = tuple(f"label {i}" for i in range(config.num_labels))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Checkpoint(ViT(config), labels, Preprocessing(), "classify"), folder)
        async with serving("--classifier", folder, "--segmenter", "none") as client:
            yield client


async def closed_loop(client: httpx.AsyncClient, clients: int, seconds: float) -> list[float]:
    """Each client sends its next image when it has the answer to the last; seconds of each.

    On bare connections: an HTTP library would need more of the processor than the service.
    """
    address = client.base_url.host, client.base_url.port
    requests = itertools.cycle([request(photo) for photo in photographs(16)])
    ends = time.monotonic() + seconds
    taken: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(*address)
        while time.monotonic() < ends:
            began = time.monotonic()
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            taken.append(time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return taken


def request(photo: bytes) -> bytes:
    """POST /classify with a photograph, as it goes over the wire."""
    head = f"POST /classify HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(photo)}\r\n\r\n"
    return head.encode() + photo


async def mean_batch_size(client: httpx.AsyncClient) -> float:
    """The mean of the service's own batch_size histogram."""
    text = (await client.get("/metrics")).text
    total, count = (
        float(re.search(rf"patchserve_batch_size_{part}{{.*}} (\S+)", text)[1])  # type: ignore[index]
        for part in ("sum", "count")
    )
    return total / count


async def small_network() -> list[str]:
    """Batch sizes and latencies with a network so small that the queue decides."""
    async with serving_random(SMALL) as client:
        taken = await closed_loop(client, CLIENTS, SECONDS)
        size = await mean_batch_size(client)
        (model,) = (await client.get("/models")).json()["models"]
    p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
    return [
        f"ViT 64 wide, 2 layers, patch 32, {CLIENTS} clients, {SECONDS:g} s:",
        f"- mean batch size {size:.1f} (limit by the measured costs: {model['max_batch_size']})",
        f"- {len(taken) / SECONDS:.0f} images/s, p99 is {p99 / p50:.1f} times p50",
    ]


async def probes_beside_a_large_network() -> list[str]:
    """How soon /livez answers while ViT-B/16 keeps the device busy."""
    async with serving_random(BASE) as client:
        ends = PROBES * PROBE_INTERVAL_S + 3.0
        load = asyncio.create_task(closed_loop(client, 8, ends))
        await asyncio.sleep(1.0)
        taken = [await timed(lambda: client.get("/livez")) for _ in range(PROBES)]
        images = len(await load)
    within = sum(seconds <= 0.1 for seconds in taken)
    return [
        f"ViT-B/16, 8 clients, {images} images classified in {ends:g} s, beside them:",
        f"- {within} of {PROBES} /livez probes answered within 100 ms "
        f"(median {statistics.median(taken) * 1000:.1f} ms, worst {max(taken) * 1000:.1f} ms)",
    ]


async def timed(request: Callable[[], Awaitable[httpx.Response]]) -> float:
    """The seconds of one probe, after the pause that orchestrators make."""
    await asyncio.sleep(PROBE_INTERVAL_S)
    began = time.monotonic()
    (await request()).raise_for_status()
    return time.monotonic() - began


def main() -> None:
    """Print the figures and keep them."""
    lines = ["# Under load", "", f"{cpu()}; the load comes from the same machine.", ""]
    for measure in (small_network, probes_beside_a_large_network):
        lines += [*asyncio.run(measure()), ""]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
