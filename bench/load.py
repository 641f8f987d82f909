"""Measures how soon probes are answered while a large network keeps the device busy.

What the service does under load otherwise, bench.serve measures.
"""

import statistics
import tempfile
import time
from pathlib import Path

from bench.common import checkpoints
from bench.common.children import child
from bench.common.machine import cpu
from bench.serving import photographs
from bench.serving.rounds import write_requests
from bench.serving.servers import OURS, Running, running, untuned

RESULTS = Path(__file__).parent / "results" / "load.md"
NETWORK, CLIENTS = "ViT-B/16", 8
PROBES, INTERVAL_S, SOON_S = 100, 0.05, 0.1


def probe(server: Running) -> float:
    """The seconds of one probe, after the pause that orchestrators make."""
    time.sleep(INTERVAL_S)
    began = time.monotonic()
    status, text = server.get("/livez")
    if status != 200:
        raise RuntimeError(f"/livez says {status}: {text}")
    return time.monotonic() - began


def measured(folder: Path) -> tuple[list[float], int]:
    """The seconds of each probe, and the images that were classified beside them."""
    checkpoints.write(NETWORK, folder)
    photos = photographs.write(folder)
    with (
        running(OURS, folder, "classify", "torch") as server,
        child("bench.serving.generator", env=untuned()) as generator,
    ):
        files = [str(file) for file in write_requests(server, "classify", photos, folder)]
        how = {"port": server.port, "requests": files, "concurrency": CLIENTS}
        generator.ask(do="closed", warm_s=1.0, seconds=PROBES * 2 * INTERVAL_S, **how)
        generator.hear("begin")
        taken = [probe(server) for _ in range(PROBES)]
        generator.hear("end")
        return taken, len(generator.hear("done")["latencies_ms"])


def main() -> None:
    """Print the figures and keep them."""
    with tempfile.TemporaryDirectory() as folder:
        taken, images = measured(Path(folder))
    within = sum(seconds <= SOON_S for seconds in taken)
    lines = [
        "# Probes under load",
        "",
        f"{cpu()}; the load comes from the same machine.",
        "",
        f"{NETWORK}, {CLIENTS} clients, {images} images classified, beside them:",
        f"- {within} of {PROBES} /livez probes answered within {SOON_S * 1e3:.0f} ms "
        f"(median {statistics.median(taken) * 1e3:.1f} ms, worst {max(taken) * 1e3:.1f} ms)",
        "",
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
