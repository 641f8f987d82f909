"""An open loop whose rate changes from phase to phase, with a record of every response."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.serving.arrivals import Phase, arrivals
from bench.serving.http_client import Connection, HttpClient, Response
from bench.serving.records import Record, record_of


def run_phases(
    client: HttpClient,
    emit: Callable[..., None],
    phases: Sequence[Phase],
    connections: int,
    seed: int,
) -> dict[str, Any]:
    """Send the requests of all phases and return the records of their responses.

    The loop waits neither for responses nor after refusals. A request that is due while all
    connections wait for a response is not sent, and counts as unsent.
    """
    responses, idle, unsent = list[Response](), list[Connection](), 0
    started, last = time.monotonic(), -1

    def take(more: list[Response]) -> None:
        responses.extend(more)
        idle.extend(response.connection for response in more)

    for after, number in arrivals(phases, seed):
        while (left := started + after - time.monotonic()) > 0:
            take(client.poll(left))
        for begun in range(last + 1, number + 1):
            emit("phase", number=begun, at=time.monotonic())
        last = number
        if idle or client.in_flight < connections:
            client.send(idle.pop() if idle else client.connect(), started + after)
        else:
            unsent += 1
    for more in client.remaining():
        take(more)
    return {
        "started": started,
        "records": columns_of(responses),
        "unsent": unsent,
        "unanswered": client.in_flight,
    }


def columns_of(responses: Sequence[Response]) -> dict[str, Any]:
    """Return the records of the responses for JSON: one list for each field."""
    rows = [record_of(response) for response in responses]
    columns = zip(*rows, strict=True) if rows else [()] * len(Record._fields)
    return dict(zip(Record._fields, columns, strict=True))
