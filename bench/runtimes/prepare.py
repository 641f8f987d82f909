"""Owns what the contenders find in a network's folder: weights, inputs and converted graphs.

Knows nothing of who reads them.
"""

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from bench.common import checkpoints
from bench.runtimes.job import Job


def prepare(name: str, batches: Sequence[int], formats: Collection[str], folder: Path) -> None:
    """Write the network's weights, and for each batch its inputs and transformers' graphs."""
    checkpoints.write(name, folder)
    jobs = [Job(folder, batch) for batch in batches]
    for job in jobs:
        for file, tensor in zip(
            (job.images, job.pixels), checkpoints.images(name, job.batch), strict=True
        ):
            np.save(file, tensor.numpy())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda pair: convert(*pair), product(formats, jobs)))


def convert(format_: str, job: Job) -> None:
    """Put transformers' network, converted for the job's batch, where its contender looks.

    A failure is in errors.txt; the contender then misses its file, and the race says so.
    """
    command = [sys.executable, "-m", "bench.runtimes.export", format_]
    files = [str(file) for file in (job.folder, job.pixels, job.converted(format_))]
    with (job.folder / "errors.txt").open("a") as errors:
        subprocess.run(  # noqa: S603  # ourselves
            [*command, *files], stdout=errors, stderr=errors, check=False
        )
