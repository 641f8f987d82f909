"""Runs contenders in processes of their own and times them in interleaved rounds on one batch."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TUNING = ("GOMP_", "KMP_", "LD_PRELOAD", "MALLOC_", "MKL_", "OMP_", "ONEDNN_")
MAX_ROUNDS = 100


class Limits(NamedTuple):
    """The minimum number of rounds, and the seconds after which no more rounds begin."""

    rounds: int
    seconds: float


class Figures(NamedTuple):
    """The figures of a contender.

    Attributes:
        seconds: time of a batch in each round.
        difference: largest difference of a logit from the first contender's.
        error: why it could not run; empty if it ran.
    """

    seconds: tuple[float, ...] = ()
    difference: float = 0.0
    error: str = ""


class ContenderProcess:
    """The process of a contender; bench.runtimes.worker lists its requests."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self.error = ""
        self._process = process

    def request(self, do: str, **parameters: Any) -> dict[str, Any]:
        """Send a request and return the response; after an error send nothing, return nothing."""
        if self.error or self._process.stdin is None or self._process.stdout is None:
            return {}
        try:
            print(json.dumps({"do": do, **parameters}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline() or '{"error": "the process ended"}'
            response = json.loads(line)
        except BrokenPipeError:
            response = {"error": "the process ended"}
        self.error = response.get("error", "")
        return response


@contextmanager
def contender_process(
    name: str, variables: Mapping[str, str], log: Path
) -> Iterator[ContenderProcess]:
    """Start a contender with these variables, in an environment without others that tune."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(TUNING)}
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.runtimes.worker"],
            env=clean | dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                yield ContenderProcess(name, process)
            finally:
                process.kill()


def race(
    contenders: Mapping[str, Mapping[str, str]],
    folder: Path,
    batches: Mapping[int, Collection[str]],
    device: str,
    limits: Limits,
) -> dict[int, dict[str, Figures]]:
    """Time contenders on each batch.

    Args:
        contenders: the environment variables of each contender by its name. The first contender
            gives the logits that the others' are compared with.
        folder: the checkpoint and the files prepared for it.
        batches: the names of the contenders by batch size.
        device: cpu or cuda.
        limits: the length of the race on each batch.

    Returns:
        The figures by batch size and name.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(contender_process(name, variables, folder / "errors.txt"))
            for name, variables in contenders.items()
        ]
        return {
            batch: race_batch(
                [one for one in processes if one.name in names], folder, batch, device, limits
            )
            for batch, names in batches.items()
        }


def race_batch(
    processes: Sequence[ContenderProcess], folder: Path, batch: int, device: str, limits: Limits
) -> dict[str, Figures]:
    """Time contenders on one batch, in random order in each round."""
    build = {"folder": str(folder), "batch": batch, "device": device}
    for process in processes:  # one after the other: some time kernels to choose the fastest
        process.request("build", contender=process.name, **build)
    differences = compare(processes, folder)
    seconds: dict[str, list[float]] = {process.name: [] for process in processes}
    order, ends = random.Random(0), time.monotonic() + limits.seconds  # noqa: S311  # not a secret
    for done in range(MAX_ROUNDS):
        if done >= limits.rounds and time.monotonic() > ends:
            break
        for process in order.sample(processes, len(processes)):
            if "seconds" in (response := process.request("round")):
                seconds[process.name].append(response["seconds"])
    return {
        one.name: Figures(tuple(seconds[one.name]), differences.get(one.name, 0.0), one.error)
        for one in processes
    }


def compare(processes: Sequence[ContenderProcess], folder: Path) -> dict[str, float]:
    """Return the largest difference of a logit from the first contender that ran, by name."""
    logits = {}
    for index, process in enumerate(processes):
        file = folder / f"logits-{index}.npy"
        process.request("logits", file=str(file))
        if not process.error:
            logits[process.name] = np.load(file)
    if not logits:
        raise RuntimeError("; ".join(f"{process.name}: {process.error}" for process in processes))
    reference = next(iter(logits.values()))
    return {name: float(np.abs(values - reference).max()) for name, values in logits.items()}
