"""Measures images/s over HTTP with several replicas on one device, with or without MPS.

One load generator is a process of its own; its cores are a figure, because at one core it is the
limit.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.common import checkpoints
from bench.common.children import child
from bench.common.cpu import usage, usage_between
from bench.common.sigterm import exit_on_sigterm
from bench.gpu_checks.options import Options, parsed
from bench.gpu_checks.processes import serving
from bench.gpu_pieces import MPS
from bench.serving import photographs
from bench.serving.rounds import write_requests
from bench.serving.servers import untuned
from bench.serving.summary import percentile

REPLICAS = (1, 2, 4, 8)
CLIENTS = 64  # for each replica


@contextmanager
def multi_process_service(folder: Path) -> Iterator[dict[str, str]]:
    """Run MPS until the end of the `with` block; yield the variables of its clients."""
    program = shutil.which(MPS)
    assert program is not None  # noqa: S101  # the session has looked for it
    variables = {
        "CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"),
        "CUDA_MPS_LOG_DIRECTORY": str(folder / "log"),
    }
    for path in variables.values():
        Path(path).mkdir()
    env = os.environ | variables
    subprocess.run([program, "-d"], env=env, check=True)  # noqa: S603  # NVIDIA's program
    try:
        yield variables
    finally:
        subprocess.run([program], env=env, input=b"quit\n", check=False)  # noqa: S603  # the same


def measured(
    replicas: int, network: str, folder: Path, options: Options, env: dict[str, str]
) -> dict[str, float]:
    """Return the figures of a closed loop of clients with this number of replicas."""
    flags = ["--classifier", str(folder / "network"), "--segmenter", "none"]
    flags += ["--workers", str(replicas)]
    warm_s, seconds = (0.5, 1.0) if options.quick else (4.0, 12.0)
    with (
        serving(folder / "service.log", options.device, *flags, env=env) as server,
        child("bench.serving.generator", env=untuned()) as generator,
    ):
        task = checkpoints.task_of(network)
        files = write_requests(server, task, photographs.write(folder), folder)
        roots = {"service": server.pid, "generator": generator.pid}
        requests = [str(file) for file in files]
        times = {"warm_s": warm_s, "seconds": seconds, "concurrency": CLIENTS * replicas}
        generator.send(do="closed", port=server.port, requests=requests, **times)
        generator.receive("begin")
        before = usage(roots)
        generator.receive("end")
        delta = usage_between(before, usage(roots))
        done = generator.receive("done")
    latencies = done["latencies_ms"]
    return {
        "replicas": replicas,
        "images_per_s": round(len(latencies) / delta.seconds, 1),
        "p50_ms": round(percentile(latencies, 0.5), 1),
        "p99_ms": round(percentile(latencies, 0.99), 1),
        "errors": len(done["errors"]),
        **{f"{name}_cores": round(cpu / delta.seconds, 2) for name, cpu in delta.cpu.items()},
    }


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures for each number of replicas, one line as soon as it is known."""
    options = parsed("http", arguments)
    network, counts = ("T", (2,)) if options.quick else ("ViT-B/16", REPLICAS)
    rows = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        checkpoints.write(network, folder / "network")
        env = stack.enter_context(multi_process_service(folder)) if options.mps else {}
        for replicas in counts:
            rows.append(measured(replicas, network, folder, options, env))
            print(json.dumps({"mps": options.mps, "network": network, "rows": rows}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
