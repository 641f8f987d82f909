"""Starts the service with cold and with warm caches of compiled kernels.

It prints the seconds until it is ready, the seconds of the first requests, the measured costs of
batches, and the log lines about captured graphs and warnings.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common import checkpoints
from bench.common.sigterm import exit_on_sigterm
from bench.gpu_checks.options import parsed
from bench.gpu_checks.processes import models, post, serving
from bench.serving import photographs

NOTED = re.compile(r'captur|compil|were measured|triton|"level":"(?:warning|error)', re.IGNORECASE)
LABELS = "labels"  # of a model: long, and not a figure


def caches(folder: Path) -> dict[str, str]:
    """Return the variables that put the caches of compiled kernels into a folder."""
    return {
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }


def answers(figures: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the status and seconds of all requests of a start."""
    return [answer for of_path in figures["status_and_seconds"].values() for answer in of_path]


def start(
    folder: Path, device: str, paths: Sequence[str], flags: Sequence[str], env: Mapping[str, str]
) -> dict[str, Any]:
    """Start the service once, send two images to each path, and return the figures."""
    photo = photographs.write(folder)[0].read_bytes()
    log = folder / "service.log"
    log.write_text("")
    began = time.monotonic()
    with serving(log, device, *flags, env=env) as server:
        ready = time.monotonic() - began
        received = {path: [post(server, path, photo) for _ in range(2)] for path in paths}
        listed = models(server)
    noted = [line[:300] for line in log.read_text().splitlines() if NOTED.search(line)]
    return {
        "ready_s": round(ready, 2),
        "status_and_seconds": received,
        "models": [{key: one[key] for key in one if key != LABELS} for one in listed],
        "log": noted[:20],
    }


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures of all starts; exit with a message if a response is not 200."""
    options = parsed("first_contact", arguments)
    network = "ViT-Ti/16" if options.quick else "ViT-B/16"
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints.write(network, folder / "network")
        one = ["--classifier", str(folder / "network"), "--segmenter", "none"]
        paths = {"bundled": ["/segment", "/classify"], network: ["/classify"]}
        for served, flags in {"bundled": [], network: one}.items():
            env = caches(folder / served.replace("/", "-"))
            for state in ("cold",) if options.quick else ("cold", "warm"):
                key = f"{served}, {state}"
                results[key] = start(folder, options.device, paths[served], flags, env)
    print(json.dumps(results))
    statuses = {answer[0] for one in results.values() for answer in answers(one)}
    if statuses != {200}:
        sys.exit(f"the statuses of the responses are {statuses}")


if __name__ == "__main__":
    main(sys.argv[1:])
