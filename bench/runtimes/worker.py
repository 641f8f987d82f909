"""The process of one contender, which reads requests as lines of JSON from its standard input.

    {"do": "build", "contender": "OpenVINO", "folder": "...", "batch": 1, "device": "cpu"}
    {"do": "logits", "file": "..."}   runs the batch twice, as warm-up, and saves the logits
    {"do": "round"}                   runs the batch for a while; returns {"seconds": per batch}

All other output goes to the standard error.
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
    """Build the contender that the request names."""
    job = Job(Path(request["folder"]), request["batch"], request["device"])
    return contender(job.device, request["contender"]).build(job)


def time_round(run: Run) -> float:
    """Return the median seconds of the calls that begin within 0.1 s, at least one call."""
    seconds: list[float] = []
    while sum(seconds) < ROUND_S:
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Handle requests until the input ends."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run: Run | None = None
    for line in sys.stdin:
        request, message = json.loads(line), {}
        try:
            if request["do"] == "build":
                run = None  # frees the memory of the last one
                run = build(request)
            elif request["do"] == "logits" and run is not None:
                run()
                np.save(request["file"], numpy_of(run()))
            elif run is not None:
                message["seconds"] = time_round(run)
        except Exception as error:  # noqa: BLE001  # the results have the error
            message["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(message), file=messages, flush=True)


if __name__ == "__main__":
    main()
