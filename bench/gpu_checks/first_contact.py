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

from bench.common import checkpoints
from bench.gpu_checks.options import parsed
from bench.gpu_checks.processes import models, post, serving
from bench.serving import photographs

NOTED = re.compile(r"captur|compil|measured|warning|error|triton", re.IGNORECASE)
LABELS = "labels"  # of a model: long, and not a figure


def caches(folder: Path) -> dict[str, str]:
    """Return the variables that put the caches of compiled kernels into a folder."""
    return {
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }


def start(
    folder: Path, device: str, paths: Sequence[str], flags: Sequence[str], env: Mapping[str, str]
) -> dict[str, object]:
    """Start the service once, send two images to each path, and return the figures."""
    photo = photographs.write(folder)[0].read_bytes()
    log = folder / "service.log"
    log.write_text("")
    began = time.monotonic()
    with serving(log, device, *flags, env=env) as server:
        ready = time.monotonic() - began
        answers = {path: [post(server, path, photo) for _ in range(2)] for path in paths}
        listed = models(server)
    noted = [line[:300] for line in log.read_text().splitlines() if NOTED.search(line)]
    return {
        "ready_s": round(ready, 2),
        "status_and_seconds": answers,
        "models": [{key: one[key] for key in one if key != LABELS} for one in listed],
        "log": noted[:20],
    }


def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures of all starts; exit with a message if a response is not 200."""
    options = parsed("first_contact", arguments)
    network = "ViT-Ti/16" if options.quick else "ViT-B/16"
    results: dict[str, dict[str, object]] = {}
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


if __name__ == "__main__":
    main(sys.argv[1:])
