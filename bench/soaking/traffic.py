"""The traffic of the soak: a process that reads jobs as lines of JSON from its standard input.

{"do": "capacity", "port": 8000, "seconds": 10, "concurrency": 16}
{"do": "mixed", "port": 8000, "seconds": 1200, "rate": 60.0, "seed": 0}
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.serving.arrivals import poisson
from bench.soaking import kinds
from bench.soaking.client import Client, Response
from bench.soaking.kinds import Kind
from bench.soaking.tally import Tally, fault

BURST_EVERY_S, BURST = 30.0, 320  # interval, and requests: more than fit in the queue
AFTERMATH_S = 1.0  # after a burst, while the queue may still hold its last requests
SLOW_S = 3.0  # duration of a slow upload
DISCONNECT_S = 0.05  # maximum time from sending to the disconnect
MAX_OPEN = 2000  # open requests: with more, the server does not respond any more


class Traffic:
    """The clients of one run."""

    def __init__(self, port: int, seed: int, emit: Callable[[str], None]) -> None:
        self.tally = Tally()
        self._emit = emit
        self._client = Client(port)
        self._kinds = kinds.every()
        self._burst = kinds.burst()
        self._random = random.Random(seed)  # noqa: S311  # not a secret
        self._busy_until = 0.0
        self._bursts = 0
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def capacity(self, seconds: float, concurrency: int) -> dict[str, Any]:
        """Run a closed loop of requests for work.

        Returns:
            The responses per second, and the fraction of such requests among the mixed ones.
        """
        work = [kind for kind in self._kinds if kind.work]
        ends, done = time.monotonic() + seconds, 0

        async def client() -> None:
            nonlocal done
            while time.monotonic() < ends:
                await self._request(self._drawn(work))
                done += time.monotonic() < ends

        await asyncio.gather(*(client() for _ in range(concurrency)))
        self._client.close()
        if self.tally.unexpected:
            raise RuntimeError(self.tally.examples[0])
        fraction = sum(kind.weight for kind in work) / sum(kind.weight for kind in self._kinds)
        return {"rate": done / seconds, "fraction": fraction}

    async def mixed(self, seconds: float, rate: float, seed: int) -> dict[str, Any]:
        """Send all kinds at random times and bursts at regular times; then emit "end"."""
        self._began = time.monotonic()
        for at, burst in schedule(rate, seconds, seed):
            if (left := self._began + at - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if len(self._tasks) > MAX_OPEN:
                raise RuntimeError(f"{MAX_OPEN} requests are unanswered after {at:.0f} s")
            if burst:
                self._start(self._all_at_once())
            else:
                self._start(self._request(self._drawn(self._kinds)))
        self._emit("end")
        await asyncio.gather(*self._tasks)
        self._client.close()
        return {**self.tally.report(), "began": self._began}

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drawn(self, kinds: list[Kind]) -> Kind:
        return self._random.choices(kinds, [kind.weight for kind in kinds])[0]

    async def _all_at_once(self) -> None:
        self._bursts += 1
        await asyncio.gather(*(self._request(self._burst) for _ in range(BURST)))
        self._bursts -= 1
        self._busy_until = time.monotonic() + AFTERMATH_S

    @property
    def _busy(self) -> bool:
        return self._bursts > 0 or time.monotonic() < self._busy_until

    async def _request(self, kind: Kind) -> None:
        request, began, busy = self._random.choice(kind.requests), time.monotonic(), self._busy
        try:
            await self._exchange(kind, request, began, busy)
        except OSError as error:
            self.tally.failed(kind, time.monotonic() - self._began, error)

    async def _exchange(self, kind: Kind, request: bytes, began: float, busy: bool) -> None:
        if kind.sending.startswith("disconnects"):
            whole = kind.sending == "disconnects waiting"
            fraction = 1.0 if whole else self._random.uniform(0.1, 0.9)
            after_s = self._random.uniform(0, DISCONNECT_S)
            await self._client.disconnect(request, fraction, after_s)
            self.tally.disconnected(kind, time.monotonic() - self._began)
            return
        response = await self._response(kind, request)
        now = time.monotonic()
        wrong = fault(kind, response, busy or self._busy)
        self.tally.add(kind, now - self._began, now - began, response, wrong)

    async def _response(self, kind: Kind, request: bytes) -> Response:
        if kind.sending == "slow":
            return await self._client.send_slowly(request, SLOW_S)
        if kind.sending == "stalled":
            return await self._client.send_stalled(request)
        if kind.sending == "incomplete":
            return await self._client.send_incomplete(request)
        return await self._client.send(request)


def schedule(rate: float, seconds: float, seed: int) -> Iterator[tuple[float, bool]]:
    """Yield the random times of requests, with the regular times of bursts in between."""
    burst = BURST_EVERY_S
    for at in poisson(rate, seconds, seed):
        while burst <= at:
            yield burst, True
            burst += BURST_EVERY_S
        yield at, False


async def run(request: dict[str, Any], emit: Callable[[str], None]) -> dict[str, Any]:
    """Run one job and return its results."""
    do = request.pop("do")
    traffic = Traffic(request.pop("port"), request.get("seed", 0), emit)
    return await (traffic.capacity if do == "capacity" else traffic.mixed)(**request)


def main() -> None:
    """Run jobs until the input ends."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(event: str, **more: Any) -> None:
        print(json.dumps({"event": event, **more}), file=messages, flush=True)

    for line in sys.stdin:
        try:
            emit("done", **asyncio.run(run(json.loads(line), emit)))
        except Exception as error:  # noqa: BLE001  # the parent process raises it
            emit("failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
