"""Asks a server mixed questions, in a process of its own: it answers lines of JSON.

    {"do": "capacity", "port": 8000, "seconds": 10, "concurrency": 16}
    {"do": "mixed", "port": 8000, "seconds": 1200, "rate": 60.0, "seed": 0}

Knows nothing of what the server holds meanwhile.
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
from bench.soaking.client import Client
from bench.soaking.kinds import Kind
from bench.soaking.tally import Tally, fault

BURST_EVERY_S, BURST = 30.0, 320  # more than the queue has places
ECHO_S = 1.0  # after a burst: its last requests may still be there when others ask
SLOW_S = 3.0  # of an upload
GONE_S = 0.05  # within which who leaves is gone
MOST = 2000  # requests at a time: more, and the server does not answer


class Traffic:
    """All callers of one run."""

    def __init__(self, port: int, seed: int, say: Callable[[str], None]) -> None:
        self.tally = Tally()
        self._say = say
        self._client = Client(port)
        self._kinds = kinds.every()
        self._burst = kinds.burst()
        self._random = random.Random(seed)  # noqa: S311  # not a secret
        self._busy_until = 0.0
        self._bursts = 0
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def capacity(self, seconds: float, concurrency: int) -> dict[str, Any]:
        """Answers a second of what asks for work when so many always wait for one, and which part
        such requests are of the mixed ones.
        """
        good = [kind for kind in self._kinds if kind.good]
        ends, done = time.monotonic() + seconds, 0

        async def caller() -> None:
            nonlocal done
            while time.monotonic() < ends:
                await self._ask(self._drawn(good))
                done += time.monotonic() < ends

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        self._client.close()
        if self.tally.unexpected:
            raise RuntimeError(self.tally.examples[0])
        weights = sum(kind.weight for kind in good) / sum(kind.weight for kind in self._kinds)
        return {"rate": done / seconds, "part": weights}

    async def mixed(self, seconds: float, rate: float, seed: int) -> dict[str, Any]:
        """All kinds at random times, and a burst now and then; says "end" behind the last."""
        self._began = time.monotonic()
        for at, burst in schedule(rate, seconds, seed):
            if (left := self._began + at - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if len(self._tasks) > MOST:
                raise RuntimeError(f"{MOST} requests are unanswered after {at:.0f} s")
            if burst:
                self._start(self._all_at_once())
            else:
                self._start(self._ask(self._drawn(self._kinds)))
        self._say("end")
        await asyncio.gather(*self._tasks)
        self._client.close()
        return {**self.tally.told(), "began": self._began}

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drawn(self, some: list[Kind]) -> Kind:
        return self._random.choices(some, [kind.weight for kind in some])[0]

    async def _all_at_once(self) -> None:
        self._bursts += 1
        await asyncio.gather(*(self._ask(self._burst) for _ in range(BURST)))
        self._bursts -= 1
        self._busy_until = time.monotonic() + ECHO_S

    @property
    def _busy(self) -> bool:
        return self._bursts > 0 or time.monotonic() < self._busy_until

    async def _ask(self, kind: Kind) -> None:
        request, began, busy = self._random.choice(kind.requests), time.monotonic(), self._busy
        try:
            await self._exchange(kind, request, began, busy)
        except OSError as error:
            self.tally.failed(kind, time.monotonic() - self._began, error)

    async def _exchange(self, kind: Kind, request: bytes, began: float, busy: bool) -> None:
        if kind.way.startswith("leaves"):
            part = self._random.uniform(0.1, 0.9) if kind.way == "leaves uploading" else 1.0
            await self._client.leave(request, part, self._random.uniform(0, GONE_S))
            self.tally.left(kind, time.monotonic() - self._began)
            return
        if kind.way == "slowly":
            reply = await self._client.slowly(request, SLOW_S)
        else:
            reply = await getattr(self._client, kind.way)(request)
        now = time.monotonic()
        wrong = fault(kind, reply, busy or self._busy)
        self.tally.add(kind, now - self._began, now - began, reply, wrong)


def schedule(rate: float, seconds: float, seed: int) -> Iterator[tuple[float, bool]]:
    """When the requests come, at random, and between them the bursts, at even distances."""
    burst = BURST_EVERY_S
    for at in poisson(rate, seconds, seed):
        while burst <= at:
            yield burst, True
            burst += BURST_EVERY_S
        yield at, False


async def run(request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Do what one line asks for."""
    do = request.pop("do")
    traffic = Traffic(request.pop("port"), request.get("seed", 0), say)
    return await (traffic.capacity if do == "capacity" else traffic.mixed)(**request)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(event: str, **more: Any) -> None:
        print(json.dumps({"event": event, **more}), file=answers, flush=True)

    for line in sys.stdin:
        try:
            say("done", **asyncio.run(run(json.loads(line), say)))
        except Exception as error:  # noqa: BLE001  # the parent says why
            say("failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
