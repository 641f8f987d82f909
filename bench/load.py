"""Measures the latency of probes while a large network keeps the device busy."""

import statistics
import tempfile
import time
from pathlib import Path

from bench.common import checkpoints
from bench.common.children import child
from bench.common.machine import cpu
from bench.common.sigterm import exit_on_sigterm
from bench.serving import photographs
from bench.serving.rounds import write_requests
from bench.serving.servers import GET_TIMEOUT_S, OURS, Running, running, untuned

RESULTS = Path(__file__).parent / "results" / "load.md"
NETWORK, CLIENTS = "ViT-B/16", 8
PROBES, INTERVAL_S, SOON_S = 100, 0.05, 0.1  # number, pause between them, target
MAX_S = PROBES * (INTERVAL_S + GET_TIMEOUT_S)  # the probes cannot take longer


def probe(server: Running) -> float:
    """Return the seconds of one probe, which is sent after a pause."""
    time.sleep(INTERVAL_S)
    began = time.monotonic()
    status, text = server.get("/livez")
    if status != 200:
        raise RuntimeError(f"/livez returned {status}: {text}")
    return time.monotonic() - began


def measured(folder: Path) -> tuple[list[float], int]:
    """Return the seconds of each probe, and the number of images classified meanwhile."""
    checkpoints.write(NETWORK, folder)
    photos = photographs.write(folder)
    with (
        running(OURS, folder, "classify", "torch") as server,
        child("bench.serving.generator", env=untuned()) as generator,
    ):
        files = [str(file) for file in write_requests(server, "classify", photos, folder)]
        stop_file = folder / "stop"  # the load lasts until the last probe is answered
        job = {"port": server.port, "requests": files, "concurrency": CLIENTS}
        generator.send(do="closed", warm_s=1.0, seconds=MAX_S, stop_file=str(stop_file), **job)
        generator.receive("begin")
        taken = [probe(server) for _ in range(PROBES)]
        stop_file.touch()
        generator.receive("end")
        return taken, len(generator.receive("done")["latencies_ms"])


@exit_on_sigterm()
def main() -> None:
    """Print the figures and write them."""
    with tempfile.TemporaryDirectory() as folder:
        taken, images = measured(Path(folder))
    within = sum(seconds <= SOON_S for seconds in taken)
    lines = [
        "# Probes under load",
        "",
        f"{cpu()}; the load generator runs on the same machine.",
        "",
        f"{NETWORK}, {CLIENTS} clients; during {images} classified images",
        f"- {within} of {PROBES} /livez probes were answered within {SOON_S * 1e3:.0f} ms "
        f"(median {statistics.median(taken) * 1e3:.1f} ms, maximum {max(taken) * 1e3:.1f} ms)",
        "",
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
