"""Owns the race: contenders in processes of their own take turns on one batch, and are timed.

Knows nothing of what the contenders are, nor of what is made of the figures.
"""

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
    """How long a race lasts: so many rounds at least, and more until so many seconds are over."""

    rounds: int
    seconds: float


class Figures(NamedTuple):
    """What a race says of a contender: seconds of a batch in each round, and the largest
    difference of a logit from the first contender's; or why there is nothing to say.
    """

    seconds: tuple[float, ...] = ()
    difference: float = 0.0
    error: str = ""


class Entrant:
    """A contender's process; see bench.runtimes.worker for what may be asked of it."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self.error = ""
        self._process = process

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """The answer; from the first error on nothing is asked any more, and the answer empty."""
        if self.error or self._process.stdin is None or self._process.stdout is None:
            return {}
        try:
            print(json.dumps({"do": do, **what}), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        except BrokenPipeError:
            answer = {"error": "the process ended"}
        self.error = answer.get("error", "")
        return answer


@contextmanager
def entered(name: str, variables: Mapping[str, str], log: Path) -> Iterator[Entrant]:
    """A contender's process with these variables on top of what a user has who tunes nothing."""
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
                yield Entrant(name, process)
            finally:
                process.kill()


def race(
    entries: Mapping[str, Mapping[str, str]],
    folder: Path,
    batches: Mapping[int, Collection[str]],
    device: str,
    limits: Limits,
) -> dict[int, dict[str, Figures]]:
    """Let the contenders take turns on each batch; their figures by batch and name.

    Args:
        entries: the variables of each contender's process, by the contender's name. The first is
            the one that the others' logits are compared with.
        folder: the checkpoint and what was prepared beside it.
        batches: who takes part, by batch size.
        device: cpu or cuda.
        limits: how long each race lasts.
    """
    with ExitStack() as stack:
        entrants = [
            stack.enter_context(entered(name, variables, folder / "errors.txt"))
            for name, variables in entries.items()
        ]
        return {
            batch: heat([e for e in entrants if e.name in names], folder, batch, device, limits)
            for batch, names in batches.items()
        }


def heat(
    entrants: Sequence[Entrant], folder: Path, batch: int, device: str, limits: Limits
) -> dict[str, Figures]:
    """One race on one batch."""
    build = {"folder": str(folder), "batch": batch, "device": device}
    for entrant in entrants:  # one by one: some try on the clock what is quicker
        entrant.ask("build", contender=entrant.name, **build)
    differences = compare(entrants, folder)
    taken: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    order, ends = random.Random(0), time.monotonic() + limits.seconds  # noqa: S311  # not a secret
    for done in range(MAX_ROUNDS):
        if done >= limits.rounds and time.monotonic() > ends:
            break
        for entrant in order.sample(entrants, len(entrants)):
            if "seconds" in (answer := entrant.ask("round")):
                taken[entrant.name].append(answer["seconds"])
    return {
        one.name: Figures(tuple(taken[one.name]), differences.get(one.name, 0.0), one.error)
        for one in entrants
    }


def compare(entrants: Sequence[Entrant], folder: Path) -> dict[str, float]:
    """The largest difference of a logit from those of the first that ran, by name."""
    logits = {}
    for index, entrant in enumerate(entrants):
        file = folder / f"logits-{index}.npy"
        entrant.ask("logits", file=str(file))
        if not entrant.error:
            logits[entrant.name] = np.load(file)
    if not logits:
        raise RuntimeError("; ".join(f"{entrant.name}: {entrant.error}" for entrant in entrants))
    reference = next(iter(logits.values()))
    return {name: float(np.abs(found - reference).max()) for name, found in logits.items()}
