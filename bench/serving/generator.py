"""The load generator: a process that reads jobs as lines of JSON from its standard input.

    {"do": "closed", "port": 8000, "requests": [FILE...], "concurrency": 32, "warm_s": 0.5,
     "seconds": 3.0}
    {"do": "open", "port": 8000, "requests": [FILE...], "rate": 350.0, "seed": 0, ...}
    {"do": "phases", "port": 8000, "requests": [FILE...], "phases": [{"rate": 2.0, "seconds": 10,
     "even": true}, {"rate": 25.0, "seconds": 60}], "connections": 500, "seed": 0}

It sends "begin" and "end" when the measured time begins and ends, or "phase" when a phase begins,
and then "done" with the results.
"""

import json
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.serving.arrivals import Phase, poisson
from bench.serving.http_client import Connection, HttpClient, Response
from bench.serving.phases import run_phases

Emit = Callable[..., None]


class Tally:
    """The counts of the responses in the measured time."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.errors: list[str] = []
        self.bodies: dict[int, bytes] = {}  # the last response to each request

    def add(self, response: Response) -> None:
        """Count a response."""
        if response.error:
            self.errors.append(response.error)
            return
        self.latencies_ms.append((response.ended - response.due) * 1e3)
        self.bodies[response.request] = response.body


def closed(
    client: HttpClient,
    emit: Emit,
    concurrency: int,
    warm_s: float,
    seconds: float,
    stop_file: str | None = None,
) -> Tally:
    """Run a closed loop: each connection sends its next request after its last response.

    The loop ends after `seconds`, or after the next response once `stop_file` exists.
    """
    begins = time.monotonic() + warm_s
    tally, began, now = Tally(), False, 0.0
    for _ in range(concurrency):
        client.send(client.connect(), time.monotonic())
    while now < begins + seconds and not (stop_file and Path(stop_file).exists()):
        for response in client.poll(begins + seconds - now):
            client.send(response.connection, time.monotonic())
            if began:
                tally.add(response)
        now = time.monotonic()
        if not began and now >= begins:
            began, begins = True, now
            emit("begin")
    emit("end")
    for _ in client.remaining():  # so that the server is idle when the next measurement begins
        pass
    return tally


def open_(
    client: HttpClient, emit: Emit, rate: float, warm_s: float, seconds: float, seed: int
) -> Tally:
    """Run an open loop: requests are sent at random times, whether others were answered or not.

    Latencies count from the intended time, so that a late generator, or a server that delays it,
    does not improve the figures.
    """
    tally, idle, started = Tally(), list[Connection](), time.monotonic()
    begins, began = started + warm_s, False

    def take(responses: list[Response]) -> None:
        for response in responses:
            idle.append(response.connection)
            if response.due >= begins:
                tally.add(response)

    for after in poisson(rate, warm_s + seconds, seed):
        while (left := started + after - time.monotonic()) > 0:
            take(client.poll(left))
        if not began and started + after >= begins:
            began = True
            emit("begin")
        client.send(idle.pop() if idle else client.connect(), started + after)
    emit("end")
    for responses in client.remaining():
        take(responses)
    tally.errors += ["no response"] * client.in_flight
    return tally


def run(request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run one job and return its results."""
    do, port, files = (request.pop(key) for key in ("do", "port", "requests"))
    bodies, source = [Path(file).read_bytes() for file in files], request.pop("source", "127.0.0.1")
    with closing(HttpClient(port, bodies, source)) as client:
        if do == "phases":
            phases = [Phase(**phase) for phase in request.pop("phases")]
            return run_phases(client, emit, phases, **request)
        tally = (closed if do == "closed" else open_)(client, emit, **request)
    return {
        "latencies_ms": tally.latencies_ms,
        "errors": tally.errors,
        "bodies": {str(number): b64encode(body).decode() for number, body in tally.bodies.items()},
    }


def main() -> None:
    """Run jobs until the input ends."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(event: str, **more: Any) -> None:
        print(json.dumps({"event": event, **more}), file=messages, flush=True)

    for line in sys.stdin:
        try:
            emit("done", **run(json.loads(line), emit))
        except Exception as error:  # noqa: BLE001  # the parent process raises it
            emit("failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
