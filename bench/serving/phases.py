"""Owns the open loop whose rate changes, and which keeps every answer.

Knows nothing of what the answers mean.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.serving.arrivals import Phase, arrivals
from bench.serving.http_client import Answer, Connection, Wire
from bench.serving.records import Record, told


def in_phases(
    wire: Wire, say: Callable[..., None], phases: Sequence[Phase], connections: int, seed: int
) -> dict[str, Any]:
    """An open loop whose rate changes; all answers are kept, with what they say of themselves.

    Not even a refusal is waited for. A request that is due while all connections wait for an
    answer is not sent, and counted.
    """
    answers, idle, unsent = list[Answer](), list[Connection](), 0
    started, last = time.monotonic(), -1

    def take(more: list[Answer]) -> None:
        answers.extend(more)
        idle.extend(answer.connection for answer in more)

    for after, number in arrivals(phases, seed):
        while (left := started + after - time.monotonic()) > 0:
            take(wire.poll(left))
        for begun in range(last + 1, number + 1):
            say("phase", number=begun, at=time.monotonic())
        last = number
        if idle or wire.in_flight < connections:
            wire.send(idle.pop() if idle else wire.connect(), started + after)
        else:
            unsent += 1
    for more in wire.remaining():
        take(more)
    return {"started": started, **kept(answers), "unsent": unsent, "unanswered": wire.in_flight}


def kept(answers: Sequence[Answer]) -> dict[str, Any]:
    """The records of the answers, for JSON: a list for each field."""
    rows = [told(answer) for answer in answers]
    columns = zip(*rows, strict=True) if rows else [()] * len(Record._fields)
    return {"records": dict(zip(Record._fields, columns, strict=True))}
