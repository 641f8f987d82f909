"""Asks a server, in a process of its own: it answers lines of JSON on its standard input.

    {"do": "closed", "port": 8000, "requests": [FILE...], "concurrency": 32, "warm_s": .5, "s": 3}
    {"do": "open", "port": 8000, "requests": [FILE...], "rate": 350.0, "seed": 0, ...}
    {"do": "phases", "port": 8000, "requests": [FILE...], "phases": [{"rate": 2.0, "seconds": 10,
     "even": true}, {"rate": 25.0, "seconds": 60}], "connections": 500, "seed": 0}

Says "begin" and "end" when the part that counts does, or "phase" when one begins, then how it
went. Knows nothing of servers.
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
from bench.serving.http_client import Answer, Connection, Wire
from bench.serving.phases import in_phases

Say = Callable[..., None]


class Tally:
    """What is counted of the answers, between begin and end."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.errors: list[str] = []
        self.bodies: dict[int, bytes] = {}  # the last answer to each request

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.error:
            self.errors.append(answer.error)
            return
        self.latencies_ms.append((answer.ended - answer.asked) * 1e3)
        self.bodies[answer.request] = answer.body


def closed(wire: Wire, say: Say, concurrency: int, warm_s: float, seconds: float) -> Tally:
    """Each connection sends its next request when it has the answer to the last."""
    begins = time.monotonic() + warm_s
    tally, began, now = Tally(), False, 0.0
    for _ in range(concurrency):
        wire.send(wire.connect(), time.monotonic())
    while now < begins + seconds:
        for answer in wire.poll(begins + seconds - now):
            wire.send(answer.connection, time.monotonic())
            if began:
                tally.add(answer)
        now = time.monotonic()
        if not began and now >= begins:
            began, begins = True, now
            say("begin")
    say("end")
    for _ in wire.remaining():  # nothing is left for the server to do when the next is asked
        pass
    return tally


def open_(wire: Wire, say: Say, rate: float, warm_s: float, seconds: float, seed: int) -> Tally:
    """Requests are sent at their own times, whether others were answered or not.

    A latency counts from the intended time, so that a generator that is late, or a server that
    holds it up, does not flatter the figures.
    """
    tally, idle, started = Tally(), list[Connection](), time.monotonic()
    begins, began = started + warm_s, False

    def take(answers: list[Answer]) -> None:
        for answer in answers:
            idle.append(answer.connection)
            if answer.asked >= begins:
                tally.add(answer)

    for after in poisson(rate, warm_s + seconds, seed):
        while (left := started + after - time.monotonic()) > 0:
            take(wire.poll(left))
        if not began and started + after >= begins:
            began = True
            say("begin")
        wire.send(idle.pop() if idle else wire.connect(), started + after)
    say("end")
    for answers in wire.remaining():
        take(answers)
    tally.errors += ["no answer"] * wire.in_flight
    return tally


def run(request: dict[str, Any], say: Say) -> dict[str, Any]:
    """Do what one line asks for."""
    do, port, files = (request.pop(key) for key in ("do", "port", "requests"))
    with closing(Wire(port, [Path(file).read_bytes() for file in files])) as wire:
        if do == "phases":
            phases = [Phase(**phase) for phase in request.pop("phases")]
            return in_phases(wire, say, phases, **request)
        tally = (closed if do == "closed" else open_)(wire, say, **request)
    return {
        "latencies_ms": tally.latencies_ms,
        "errors": tally.errors,
        "bodies": {str(number): b64encode(body).decode() for number, body in tally.bodies.items()},
    }


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(event: str, **more: Any) -> None:
        print(json.dumps({"event": event, **more}), file=answers, flush=True)

    for line in sys.stdin:
        try:
            say("done", **run(json.loads(line), say))
        except Exception as error:  # noqa: BLE001  # the parent says who could not be asked
            say("failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
