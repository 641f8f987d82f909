"""Prepares the folder of a network for the contenders: weights, inputs and converted networks."""

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
    """Write the network's weights, and for each batch its inputs and the converted networks."""
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
    """Write transformers' network in a format for the job's batch.

    An error goes to errors.txt; the contender then has no file, and the race reports that.
    """
    command = [sys.executable, "-m", "bench.runtimes.export", format_]
    files = [str(file) for file in (job.folder, job.pixels, job.converted(format_))]
    with (job.folder / "errors.txt").open("a") as errors:
        subprocess.run(  # noqa: S603  # a module of this project
            [*command, *files], stdout=errors, stderr=errors, check=False
        )
