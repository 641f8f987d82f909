"""Runs one contender in a process of its own: it answers lines of JSON on its standard input.

    {"do": "build", "contender": "OpenVINO", "folder": "...", "batch": 1, "device": "cpu"}
    {"do": "logits", "file": "..."}   runs it twice, so that all is set up, and keeps what it gave
    {"do": "round"}                   runs it for a while: {"seconds": of one batch}

Knows nothing of the others. Whatever else is printed goes to the standard error.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.runtimes.contenders import contender
from bench.runtimes.job import Job, Run, numpy_of

ROUND_S = 0.1


def build(request: dict[str, Any]) -> Run:
    """The contender that the request names."""
    job = Job(Path(request["folder"]), request["batch"], request["device"])
    return contender(job.device, request["contender"]).build(job)


def round_(run: Run) -> float:
    """The median seconds of as many calls as begin within a tenth of a second, one at least."""
    taken: list[float] = []
    while sum(taken) < ROUND_S:
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run: Run | None = None
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        try:
            if request["do"] == "build":
                run = None  # frees the last one first
                run = build(request)
            elif request["do"] == "logits" and run is not None:
                run()
                np.save(request["file"], numpy_of(run()))
            elif run is not None:
                answer["seconds"] = round_(run)
        except Exception as error:  # noqa: BLE001  # the parent leaves this one out and says so
            answer["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
